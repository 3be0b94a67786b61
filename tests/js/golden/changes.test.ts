import { replayFile } from './replay.js';

replayFile('changes.json');
