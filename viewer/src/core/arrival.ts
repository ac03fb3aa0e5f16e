/** Which slices of a volume have arrived. */

/** Slices that have arrived, in any order; those of an unbroken run from the first on can be shown. */
export class Arrival {
  /** Slices of the run that starts at slice 0. */
  ready = 0;
  private readonly waiting = new Map<number, number>();

  constructor(readonly slices: number) {}

  get isComplete(): boolean {
    return this.ready >= this.slices;
  }

  /**
   * Note slices [first, first + count).
   *
   * @throws RangeError when they leave the volume.
   */
  add(first: number, count: number): void {
    if (!Number.isInteger(first) || first < 0 || count < 1 || first + count > this.slices) {
      throw new RangeError(`Slices ${first} to ${first + count} do not lie in a volume of ${this.slices}.`);
    }
    this.waiting.set(first, Math.max(this.waiting.get(first) ?? 0, first + count));
    let found = true;
    while (found) {
      found = false;
      for (const [start, stop] of this.waiting) {
        if (start > this.ready) continue;
        this.ready = Math.max(this.ready, stop);
        this.waiting.delete(start);
        found = true;
      }
    }
  }
}
