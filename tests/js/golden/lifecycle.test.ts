import { replayFile } from './replay.js';

replayFile('lifecycle.json');
