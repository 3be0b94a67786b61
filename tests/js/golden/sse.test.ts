import { replayFile } from './replay.js';

replayFile('sse.json', { early: ['open-idle-to-the-end'] });
