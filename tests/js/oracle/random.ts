// Seeded randomness: the same seed gives the same decisions.

export class Random {
    private state: number;

    constructor(seed: number) {
        this.state = seed >>> 0 || 1;
    }

    /** A number in [0, 1). */
    next(): number {
        // mulberry32
        this.state = (this.state + 0x6d2b79f5) >>> 0;
        let t = this.state;
        t = Math.imul(t ^ (t >>> 15), t | 1);
        t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
        return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    }

    /** An integer in [from, to]. */
    int(from: number, to: number): number {
        return from + Math.floor(this.next() * (to - from + 1));
    }

    chance(probability: number): boolean {
        return this.next() < probability;
    }

    pick<T>(list: readonly T[]): T {
        return list[Math.floor(this.next() * list.length)];
    }

    /** A generator of its own, so that parallel actors don't disturb each other. */
    fork(): Random {
        return new Random(Math.floor(this.next() * 4294967296));
    }
}
