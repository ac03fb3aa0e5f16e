/** What a page states about a finished run. */

import { relativeThickness, written } from '../core/eligibility';
import { USUAL_CONSISTENCY_HU } from '../core/meter';
import type { NetworkFacts } from '../core/network';
import type { Volume } from '../core/volume';
import type { RunFacts } from '../worker/messages';
import { threads } from './assets';
import { durationText, make } from './elements';

export interface FinishedRun {
  readonly volume: Volume;
  readonly factor: number;
  readonly facts: NetworkFacts;
  readonly run: RunFacts;
  readonly seconds: number;
  /** Sentences about the scan. */
  readonly before: readonly string[];
}

/** A table of the run, and its warnings. */
export function runTable({ volume, factor, facts, run, seconds, before }: FinishedRun): HTMLElement[] {
  const rms = run.consistencyRmsHu;
  const rows: readonly (readonly [string, string])[] = [
    ['Network', `${facts.name} ${facts.version}, weights ${facts.weightsSha256.slice(0, 12)}`],
    [
      'Thin slices',
      `${(volume.grid.shape[0] - 1) * factor + 1}, ${written(volume.grid.spacingMm[0] / factor)} mm apart`,
    ],
    ['Averaged back, differ from the thick slices by', rms === null ? 'not measurable' : `${rms.toFixed(2)} HU (RMS)`],
    ['Time', `${durationText(seconds)} on ${threads()} thread(s)`],
  ];
  const warnings = [...before];
  if (run.voxelsOutsideWindow > 0) {
    warnings.push(
      `${run.voxelsOutsideWindow} thin voxels lie where the source is outside the network's window (-1024 to 2048 ` +
        'HU); there the interpolated source was blended back.',
    );
  }
  if (rms !== null && rms > USUAL_CONSISTENCY_HU) {
    warnings.push(
      `The thin slices, averaged back, differ from the thick ones by ${rms.toFixed(1)} HU root mean square, where up ` +
        `to ${USUAL_CONSISTENCY_HU} HU are usual: the slices may not belong to one acquisition, or their thickness ` +
        'may be stated wrong. Do not trust the result before the source is checked.',
    );
  }
  if (volume.thicknessMm === null && relativeThickness(volume) === 1) {
    warnings.push('The file does not state the slice thickness; slices were taken as contiguous.');
  }
  const body = make(
    'tbody',
    {},
    ...rows.map(([name, value]) => make('tr', {}, make('th', { scope: 'row' }, name), make('td', {}, value))),
  );
  return [make('table', { 'aria-label': 'About this run' }, body), ...warningList(warnings)];
}

/** Sentences as a list; nothing where there is none. */
export function warningList(warnings: readonly string[]): HTMLElement[] {
  if (warnings.length === 0) return [];
  return [make('ul', { class: 'warnings' }, ...warnings.map((warning) => make('li', {}, warning)))];
}
