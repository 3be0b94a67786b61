import { replayFile } from './replay.js';

replayFile('identifiers.json');
