import { replayFile } from './replay.js';

replayFile('types.json');
