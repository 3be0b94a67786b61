import { replayFile } from './replay.js';

replayFile('validation.json');
