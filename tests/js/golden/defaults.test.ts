import { replayFile } from './replay.js';

replayFile('defaults.json');
