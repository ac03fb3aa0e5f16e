/** The page: a scan is chosen, read, upscaled, shown and saved, all of it here. */

import { connectDrop } from '../../../src/thinslice/service/static/drop.js';
import { chooseFactor, usualFactor, written } from '../core/eligibility';
import { PageError } from '../core/errors';
import type { NetworkFacts } from '../core/network';
import type { Volume } from '../core/volume';
import { networkFacts } from '../io/onnx_metadata';
import type { Candidate } from '../worker/messages';
import { load, NETWORK_FILES, runtime, UNCERTAINTY_FILES } from './assets';
import { memoryWarning, missingFeature } from './browser';
import { announce, at, durationText, make, problemText, showProblem } from './elements';
import { choiceOf } from './files';
import { runJob, Stopped } from './jobs';
import { runTable, warningList } from './run_table';
import { Result } from './result';

interface Network {
  readonly facts: NetworkFacts;
  readonly bytes: ArrayBuffer;
}

interface Scan {
  readonly volume: Volume;
  readonly warnings: readonly string[];
}

class Page {
  private scan: Scan | null = null;
  private result: Result | null = null;
  /** Ends what is under way. */
  private control: AbortController | null = null;
  /** What gets the focus when it is over; a button cannot before, as it is disabled. */
  private next: HTMLElement | null = null;

  constructor(private readonly networks: readonly Network[]) {
    connectDrop((files) => {
      this.guard(() => this.open(files));
    }, showProblem);
    this.connectSettings();
    at('cancel', 'button').addEventListener('click', () => this.control?.abort());
    for (const kind of ['save', 'save-uncertainty'] as const) {
      at(kind, 'button').addEventListener('click', () => {
        this.guard(() => this.save(kind === 'save-uncertainty'));
      });
    }
  }

  private connectSettings(): void {
    const select = at('network', 'select');
    select.replaceChildren(...this.networks.map(({ facts }) => make('option', { value: facts.name }, facts.name)));
    const note = (): void => {
      at('network-note', 'span').textContent = this.network.facts.summary;
      this.update();
    };
    select.addEventListener('change', note);
    note();
    at('uncertainty', 'input').addEventListener('change', () => {
      this.updateNeeds();
    });
    at('factor', 'select').addEventListener('change', () => {
      this.updateNeeds();
    });
    at('settings', 'form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.guard(() => this.upscale());
    });
  }

  private get network(): Network {
    const name = at('network', 'select').value;
    return this.networks.find(({ facts }) => facts.name === name) ?? this.networks[0];
  }

  private get wantsUncertainty(): boolean {
    return at('uncertainty', 'input').checked && this.network.facts.name in UNCERTAINTY_FILES;
  }

  /** The network that is chosen, or its graph with standard deviations. */
  private async chosenNetwork(): Promise<Network> {
    const { network } = this;
    const file = this.wantsUncertainty ? UNCERTAINTY_FILES[network.facts.name] : undefined;
    return file === undefined ? network : openedNetwork(file);
  }

  /** Run something that takes time, alone; what goes wrong is shown. */
  private guard(run: (signal: AbortSignal) => Promise<void>): void {
    if (this.control !== null) {
      showProblem(new PageError('Something is under way; wait for it, or cancel it.'));
      return;
    }
    showProblem(null);
    const control = new AbortController();
    this.control = control;
    this.update();
    run(control.signal)
      .catch((error: unknown) => {
        if (error instanceof Stopped) announce('Cancelled.');
        else showProblem(error);
      })
      .finally(() => {
        this.control = null;
        at('run', 'div').hidden = true;
        this.update();
        this.next?.focus();
        this.next = null;
      });
  }

  private get signal(): AbortSignal {
    return this.control?.signal ?? AbortSignal.abort();
  }

  private async open(files: readonly File[]): Promise<void> {
    const choice = choiceOf(files);
    this.forget();
    if ('nifti' in choice) {
      await this.read(choice.nifti, null);
      return;
    }
    this.progress('Reading the DICOM files', 0);
    const onReport = (report: { kind: string; share?: number }): void => {
      if (report.share !== undefined) this.progress('Reading the DICOM files', report.share);
    };
    const job = { kind: 'convert', files: choice.dicom, binary: await load('dcm2niix.wasm') } as const;
    const end = await runJob(job, onReport, this.signal);
    if (end.kind !== 'candidates') return;
    if (end.candidates.length === 1) {
      const [only] = end.candidates;
      if (only.refusal !== null) throw new PageError(only.refusal);
      await this.read(only.file, { thicknessMm: only.thicknessMm });
      return;
    }
    this.offer(end.candidates);
  }

  /** Let the reader choose among several volumes. */
  private offer(candidates: readonly Candidate[]): void {
    const rows = candidates.map((candidate) => {
      if (candidate.refusal !== null) {
        return make('li', {}, make('span', { class: 'quiet' }, `${candidate.label}: ${candidate.refusal}`));
      }
      const choose = make('button', { type: 'button' }, candidate.label);
      choose.addEventListener('click', () => {
        this.guard(() => this.read(candidate.file, { thicknessMm: candidate.thicknessMm }));
      });
      return make('li', {}, choose);
    });
    const usable = candidates.filter(({ refusal }) => refusal === null).length;
    const heading =
      usable === 0
        ? 'None of the volumes in these files can be upscaled:'
        : `These files hold ${candidates.length} volumes; choose one:`;
    const place = at('candidates', 'div');
    place.replaceChildren(make('p', {}, heading), make('ul', { class: 'candidates' }, ...rows));
    place.hidden = false;
    announce(heading);
    this.next = place.querySelector('button');
  }

  private async read(file: Blob, dicom: { readonly thicknessMm: number | null } | null): Promise<void> {
    this.forget();
    this.progress('Reading the scan', 0);
    const end = await runJob({ kind: 'read', file, dicom }, () => undefined, this.signal);
    if (end.kind !== 'volume') return;
    if (end.refusal !== null) throw new PageError(end.refusal);
    const { volume, warnings } = end;
    if (volume.grid.shape[0] < 2) chooseFactor(volume, null);
    this.scan = { volume, warnings };
    this.showScan(volume, warnings);
    announce('The scan is read. Make thin slices when you are ready.');
    this.next = at('go', 'button');
  }

  private showScan(volume: Volume, warnings: readonly string[]): void {
    const { shape, spacingMm } = volume.grid;
    const text = `${shape[0]} slices of ${shape[1]} x ${shape[2]}, ${written(spacingMm[0])} mm apart.`;
    const place = at('scan', 'div');
    place.replaceChildren(make('p', {}, text), ...warningList(warnings));
    place.hidden = false;
    const usual = usualFactor(spacingMm[0]);
    const factors = this.networks[0].facts.factors;
    const options = factors.map((factor) =>
      make(
        'option',
        { value: `${factor}`, selected: factor === usual },
        `${written(spacingMm[0] / factor)} mm (factor ${factor})${factor === usual ? ', nearest to 1 mm' : ''}`,
      ),
    );
    // Where no factor comes near 1 mm, the reader has to choose one; the run states why.
    const none = factors.includes(usual) ? [] : [make('option', { value: '', selected: true }, 'about 1 mm')];
    at('factor', 'select').replaceChildren(...none, ...options);
  }

  /** The factor that is chosen; null for the usual one. */
  private get factor(): number | null {
    const { value } = at('factor', 'select');
    return value === '' ? null : Number(value);
  }

  private async upscale(): Promise<void> {
    if (this.scan === null) return;
    const { volume, warnings } = this.scan;
    const { facts, bytes } = await this.chosenNetwork();
    const factor = chooseFactor(volume, this.factor);
    this.result?.close();
    at('result', 'section').hidden = false;
    this.progress('Starting', 0);
    const result = new Result(volume, factor, facts.hasDeviation, at('notice', 'p').textContent, [
      ['Network', `${facts.name} ${facts.version}`],
      ['Factor', `${factor}`],
    ]);
    this.result = result;
    at('facts', 'div').replaceChildren();
    const started = performance.now();
    let first = 0;
    const job = { kind: 'upscale', volume, factor, facts, network: bytes, runtime: await runtime() } as const;
    const end = await runJob(
      job,
      (report) => {
        if (report.kind === 'patch') {
          result.add(report.patch);
          return;
        }
        const now = performance.now();
        if (report.share === 0) first = now;
        const left = report.share > 0 ? ((now - first) * (1 - report.share)) / report.share / 1000 : null;
        this.progress(report.share < 1 ? 'Making thin slices' : 'Finishing', report.share, left);
      },
      this.signal,
    );
    if (end.kind !== 'done') return;
    const seconds = (performance.now() - started) / 1000;
    at('facts', 'div').replaceChildren(
      ...runTable({ volume, factor, facts, run: end.facts, seconds, before: warnings }),
    );
    at('save', 'button').dataset.ready = 'yes';
    at('save-uncertainty', 'button').hidden = !facts.hasDeviation;
    announce(`The thin slices are ready, after ${durationText(seconds)}.`);
    this.next = at('result-title', 'h2');
  }

  /** Save the thin slices, or their standard deviations. */
  private async save(isUncertainty: boolean): Promise<void> {
    if (this.result === null) return;
    this.progress('Packing the file', 0);
    const made = `thinslice ${this.network.facts.packageVersion}`;
    const file = isUncertainty
      ? await this.result.deviationFile(`${made}; standard deviation in HU; research only`)
      : await this.result.file(`${made}; research only`);
    if (file === null) return;
    const link = make('a', {
      href: URL.createObjectURL(file),
      download: `thinslice-${isUncertainty ? 'uncertainty' : 'upscaled'}-${written(this.result.grid.spacingMm[0])}mm.nii.gz`,
    });
    link.click();
    setTimeout(() => {
      URL.revokeObjectURL(link.href);
    }, 60_000);
    announce(
      isUncertainty
        ? 'The uncertainty is saved by the browser: a standard deviation in HU for every voxel.'
        : 'The file is saved by the browser. Its name states that it is upscaled; keep the original images.',
    );
  }

  private forget(): void {
    this.result?.close();
    this.result = null;
    this.scan = null;
    delete at('save', 'button').dataset.ready;
    at('save-uncertainty', 'button').hidden = true;
    for (const id of ['candidates', 'scan'] as const) at(id, 'div').hidden = true;
    at('result', 'section').hidden = true;
  }

  private progress(text: string, share: number, secondsLeft: number | null = null): void {
    at('run', 'div').hidden = false;
    at('bar', 'progress').value = share;
    const left = secondsLeft === null || share >= 1 ? '' : `, about ${durationText(secondsLeft)} left`;
    at('bar-text', 'label').textContent = `${text}: ${Math.round(share * 100)} %${left}`;
  }

  /** Buttons as the state of the page has them. */
  private update(): void {
    const isBusy = this.control !== null;
    const save = at('save', 'button');
    at('go', 'button').disabled = isBusy || this.scan === null;
    at('factor', 'select').disabled = isBusy || this.scan === null;
    at('network', 'select').disabled = isBusy;
    save.disabled = isBusy || save.dataset.ready === undefined;
    at('save-uncertainty', 'button').disabled = save.disabled;
    const canEstimate = this.network.facts.name in UNCERTAINTY_FILES;
    at('uncertainty', 'input').disabled = isBusy || !canEstimate;
    at('uncertainty-note', 'span').textContent = canEstimate
      ? 'A standard deviation for every voxel, laid over the picture with U.'
      : 'The network default can do so.';
    at('save-note', 'span').textContent = save.disabled
      ? 'When all slices are there.'
      : 'Into the downloads of this browser.';
    this.updateNeeds();
  }

  private updateNeeds(): void {
    const place = at('needs', 'span');
    if (this.scan === null) place.textContent = 'Choose a scan first.';
    else
      place.textContent =
        (this.factor === null ? null : memoryWarning(this.scan.volume, this.factor, this.wantsUncertainty)) ?? '';
  }
}

async function openedNetwork(file: string): Promise<Network> {
  const bytes = await load(file);
  return { facts: networkFacts(new Uint8Array(bytes)), bytes };
}

async function start(): Promise<void> {
  const missing = missingFeature();
  if (missing !== null) throw new PageError(missing);
  const networks: Network[] = [];
  for (const name of NETWORK_FILES) networks.push(await openedNetwork(name));
  new Page(networks);
  document.body.dataset.ready = 'yes';
}

start().catch((error: unknown) => {
  const place = at('problem', 'p');
  place.hidden = false;
  place.textContent = problemText(error);
});
