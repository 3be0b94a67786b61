import { replayFile } from './replay.js';

replayFile('subsets.json');
