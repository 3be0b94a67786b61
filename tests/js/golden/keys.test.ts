import { replayFile } from './replay.js';

replayFile('keys.json');
