import { replayFile } from './replay.js';

replayFile('reconcile.json');
