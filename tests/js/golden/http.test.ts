import { replayFile } from './replay.js';

replayFile('http.json');
