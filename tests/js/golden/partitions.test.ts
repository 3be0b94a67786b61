import { replayFile } from './replay.js';

replayFile('partitions.json');
