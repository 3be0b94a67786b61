import { replayFile } from './replay.js';

replayFile('chunks.json');
