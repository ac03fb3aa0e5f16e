/** The viewer: volumes, state, panes and panels, put together in an element of the page. */

import { indexAt, positionOf, type Vec3 } from './core/geometry';
import { positionText, written } from './core/measure';
import { PLANE_NAMES, type PlaneName } from './core/planes';
import type { Mode } from './core/sampling';
import type { VolumeName } from './gl/renderer';
import { paneContent, rowContent } from './ui/content';
import { Controller } from './ui/controller';
import { make, setAttributes } from './ui/dom';
import { bindingOf, type KeyTarget } from './ui/keys';
import { arrange } from './ui/layout';
import { canvasRectangle, Pane } from './ui/pane';
import { Legend, makeDialog, makeHelp, makeTable } from './ui/panels';
import { PanePointer } from './ui/pointer';
import { ProfilePanel } from './ui/profile';
import { initialState, MODE_NAMES, type ViewState } from './ui/state';
import styles from './ui/styles.css';
import { makeToolbar, type Toolbar } from './ui/toolbar';
import { Volumes, type VolumesOptions } from './volumes';

/**
 * Milliseconds from a picture to the next one while slices arrive: first, and at most. Each wait is twice the one before,
 * as pictures without graphics hardware cost as much as loading.
 */
const [FIRST_ARRIVAL_MS, MOST_ARRIVAL_MS] = [300, 2400] as const;

/** Milliseconds that A and B are shown in turns. */
const BLINK_MS = 700;

/** Highest ratio of device pixels to CSS pixels that is drawn: more costs time and shows nothing new. */
const MOST_PIXEL_RATIO = 2;

/** Width of a window below which the viewer opens with one plane. */
const NARROW_PIXELS = 560;

const NOTICE =
  'Research software, not a medical device. Synthesised detail can be wrong. Not for diagnosis; keep the original images.';

export interface ViewerOptions extends VolumesOptions {
  /** The notice that is always visible. */
  readonly notice?: string;
  /** Rows of the panel "About these volumes". */
  readonly facts?: readonly (readonly [string, string])[];
  /** Parts of the state with which the viewer opens. */
  readonly state?: Partial<ViewState>;
}

/** Events of a viewer. */
export interface ViewerEvents {
  /** The state has changed. */
  change: { readonly before: ViewState; readonly after: ViewState };
  /** The crosshair has moved: LPS millimetres. */
  position: { readonly positionMm: Vec3 };
  /** Slices have arrived. */
  arrival: { readonly volume: VolumeName; readonly ready: number; readonly slices: number };
  /** The browser took the graphics memory and gave it back: thin slices and deviations have to be added again. */
  restored: Record<string, never>;
}

type Listener<K extends keyof ViewerEvents> = (event: ViewerEvents[K]) => void;

/** Make a viewer in an element, which it fills. */
export function createViewer(element: HTMLElement, options: ViewerOptions): Viewer {
  return new Viewer(element, options);
}

export class Viewer {
  private readonly canvas = make('canvas', { 'aria-hidden': 'true' });
  private readonly stage = make('div', { class: 'ts-stage' }, this.canvas);
  private readonly readout = make('div', { class: 'ts-readout' });
  private readonly progress = make('div', { class: 'ts-progress' });
  private readonly live = make('div', { class: 'ts-live', role: 'status', 'aria-live': 'polite' });
  private readonly root = make('section', { class: 'ts-viewer', 'aria-label': 'Viewer of thick and thin slices' });
  private readonly volumes: Volumes;
  private readonly controller: Controller;
  private readonly toolbar: Toolbar;
  private readonly legend: Legend;
  private readonly profile: ProfilePanel;
  private readonly help = makeHelp();
  private readonly facts: HTMLDialogElement;
  private panes: Pane[] = [];
  private drawing: { pane: Pane; line: { from: Vec3; to: Vec3 } } | null = null;
  private hovered: Vec3 | null = null;
  private focused: PlaneName = 'axial';
  private frame = 0;
  private blink = 0;
  private arriving = 0;
  private arrivalMs: number = FIRST_ARRIVAL_MS;
  private readonly listeners: { [K in keyof ViewerEvents]: Set<Listener<K>> } = {
    change: new Set(),
    position: new Set(),
    arrival: new Set(),
    restored: new Set(),
  };
  private readonly resized = new ResizeObserver(() => {
    this.schedule();
  });

  /**
   * @throws GridError when the grids do not fit one another.
   * @throws GraphicsError without WebGL2, or when memory is short; its message is for the reader of the page.
   */
  constructor(element: HTMLElement, options: ViewerOptions) {
    this.volumes = new Volumes(this.canvas, options);
    const { grid, modes } = this.volumes;
    this.controller = new Controller(
      grid,
      modes,
      { ...initialState(grid, options.hasThin ?? false), ...planesFor(window.innerWidth), ...options.state },
      (before) => {
        this.changed(before);
      },
      (sentence) => {
        this.live.textContent = sentence;
      },
    );
    this.facts = makeDialog('About these volumes', makeTable('Facts', this.factRows(options)));
    this.toolbar = makeToolbar(this.controller, {
      toggleFullScreen: () => {
        this.toggleFullScreen();
      },
      showHelp: () => {
        this.help.showModal();
      },
      showFacts: () => {
        this.facts.showModal();
      },
    });
    this.legend = new Legend(this.controller);
    this.profile = new ProfilePanel(grid);
    const notice = make('footer', { class: 'ts-notice' }, options.notice ?? NOTICE);
    const foot = make('div', { class: 'ts-status' }, this.readout, this.progress);
    this.root.append(
      this.toolbar.element,
      this.stage,
      this.legend.element,
      this.profile.element,
      foot,
      notice,
      this.live,
      this.help,
      this.facts,
    );
    adoptStyles(element);
    element.append(this.root);
    this.root.addEventListener('keydown', this.keyed);
    this.canvas.addEventListener('webglcontextlost', this.lost);
    this.canvas.addEventListener('webglcontextrestored', this.restored);
    this.resized.observe(this.stage);
    this.changed(this.controller.state);
    if (this.volumes.reductionOfSource > 1) this.controller.announce(this.reductionText());
  }

  get state(): ViewState {
    return this.controller.state;
  }

  /** Change parts of the state: `viewer.set({ compare: 'swipe', a: 'thick', b: 'thin' })`. */
  set(part: Partial<ViewState>): void {
    this.controller.set(part);
  }

  /** The crosshair in LPS millimetres. */
  get positionMm(): Vec3 {
    return positionOf(this.volumes.grid, this.state.index);
  }

  /** Move the crosshair to the voxel nearest to an LPS position. */
  setPosition(positionMm: Vec3): void {
    this.controller.set({ index: indexAt(this.volumes.grid, positionMm) });
  }

  /** Listen to an event; the result ends it. */
  on<K extends keyof ViewerEvents>(name: K, listener: Listener<K>): () => void {
    this.listeners[name].add(listener);
    return () => {
      this.listeners[name].delete(listener);
    };
  }

  /**
   * Add slices as they arrive; those of an unbroken run from the first slice on are shown at once.
   *
   * @param voxels (slices, height, width) HU; for deviations in steps of `deviationStepHu`.
   */
  addSlab(volume: VolumeName, firstSlice: number, voxels: Int16Array): void {
    this.volumes.add(volume, firstSlice, voxels);
    const arrival = this.volumes.arrival(volume);
    if (arrival !== null) this.emit('arrival', { volume, ready: arrival.ready, slices: arrival.slices });
    if (this.volumes.isComplete) {
      this.controller.announce('All slices have arrived.');
      this.schedule();
    } else if (this.arriving === 0) {
      this.arriving = window.setTimeout(() => {
        this.arriving = 0;
        this.schedule();
      }, this.arrivalMs);
      this.arrivalMs = Math.min(2 * this.arrivalMs, MOST_ARRIVAL_MS);
    }
  }

  /**
   * HU of a mode by the shader at places in a row: `origin`, `origin + step`, ...; NaN where there is none.
   *
   * @param origin fractional (depth, height, width) index on the grid that is shown.
   */
  valuesAlong(mode: Mode, origin: Vec3, step: Vec3, count: number): Float32Array {
    if (mode === 'cubic' || mode === 'difference') this.volumes.prepareCubic();
    return this.volumes.renderer.values([rowContent(this.state, mode, origin, step)], count, 1)[0];
  }

  /** HU of every pixel of a plane's picture as its pane shows it, (height, width), the upper row first. */
  valuesOfPlane(plane: PlaneName, mode: Mode, width: number, height: number): Float32Array {
    if (mode === 'cubic' || mode === 'difference') this.volumes.prepareCubic();
    const pane = new Pane({ plane, side: 'both' }, this.controller);
    const shown = { left: mode, right: mode, divider: 1 };
    const view = pane.view(this.state, width, height);
    const content = paneContent(this.volumes.grid, this.controller.planes[plane], this.state, view, shown);
    return this.volumes.renderer.values([content], width, height)[0];
  }

  /** Give the first pane the focus, so that keys work. */
  focus(): void {
    if (this.panes.length === 0) this.draw();
    this.panes.at(0)?.element.focus();
  }

  /** Draw at once, not with the next frame. */
  draw(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const { state } = this;
    const modes: Mode[] = [state.a, state.b];
    if (
      state.showsProfile ||
      state.overlay === 'difference' ||
      modes.includes('cubic') ||
      modes.includes('difference')
    ) {
      this.volumes.prepareCubic();
    }
    const { clientWidth: width, clientHeight: height } = this.stage;
    if (width < 1 || height < 1 || this.volumes.renderer.isLost) return;
    const ratio = Math.min(window.devicePixelRatio, MOST_PIXEL_RATIO);
    const [pixelsWide, pixelsHigh] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== pixelsWide || this.canvas.height !== pixelsHigh) {
      [this.canvas.width, this.canvas.height] = [pixelsWide, pixelsHigh];
    }
    const places = arrange(state, width, height);
    this.arrangePanes(places.map(({ plane, side }) => ({ plane, side })));
    const { renderer, grid } = this.volumes;
    renderer.clear();
    places.forEach((place, i) => {
      const pane = this.panes[i];
      pane.update(place, this.drawing?.pane === pane ? this.drawing.line : null);
      const rectangle = canvasRectangle(place, height, ratio);
      const view = pane.view(state, rectangle.width, rectangle.height);
      renderer.draw(rectangle, paneContent(grid, this.controller.planes[place.plane], state, view, pane.shown(state)));
    });
    this.updatePanels();
  }

  /** Remove the viewer from the page and free its memory. */
  destroy(): void {
    cancelAnimationFrame(this.frame);
    window.clearInterval(this.blink);
    window.clearTimeout(this.arriving);
    this.resized.disconnect();
    this.volumes.renderer.dispose();
    this.root.remove();
  }

  private emit<K extends keyof ViewerEvents>(name: K, event: ViewerEvents[K]): void {
    for (const listener of this.listeners[name]) listener(event);
  }

  private changed(before: ViewState): void {
    const after = this.controller.state;
    window.clearInterval(this.blink);
    if (after.compare === 'blink') {
      this.blink = window.setInterval(() => {
        this.controller.set({ showsB: !this.controller.state.showsB });
      }, BLINK_MS);
    }
    this.toolbar.update(after);
    this.schedule();
    if (before === after) return;
    this.emit('change', { before, after });
    if (before.index !== after.index) this.emit('position', { positionMm: this.positionMm });
  }

  private schedule(): void {
    if (this.frame !== 0) return;
    this.frame = requestAnimationFrame(() => {
      this.draw();
    });
  }

  private arrangePanes(keys: readonly Pane['key'][]): void {
    const isSame =
      keys.length === this.panes.length &&
      keys.every((key, i) => key.plane === this.panes[i].key.plane && key.side === this.panes[i].key.side);
    if (isSame) return;
    const hadFocus = this.panes.some((pane) => pane.element.contains(document.activeElement));
    for (const pane of this.panes) pane.element.remove();
    this.panes = keys.map((key) => {
      const pane = new Pane(key, this.controller);
      pane.element.addEventListener('focusin', () => {
        this.focused = key.plane;
      });
      new PanePointer(pane, this.controller, {
        hover: (index) => {
          this.hovered = index;
          this.schedule();
        },
        drawing: (of, line) => {
          this.drawing = line === null ? null : { pane: of, line };
          this.schedule();
        },
      });
      return pane;
    });
    this.stage.append(...this.panes.map((pane) => pane.element));
    if (hadFocus) (this.panes.find((pane) => pane.key.plane === this.focused) ?? this.panes[0]).element.focus();
  }

  private updatePanels(): void {
    const { state } = this;
    const { renderer, grid, modes } = this.volumes;
    this.legend.update(state);
    this.profile.element.hidden = !state.showsProfile;
    if (state.showsProfile) {
      const shown = (['thick', 'cubic', 'thin'] as const).filter((mode) => modes.includes(mode));
      const [, row, column] = state.index;
      const contents = shown.map((mode) => rowContent(state, mode, [0, row, column], [1, 0, 0]));
      const values = renderer.values(contents, grid.shape[0], 1);
      this.profile.update(
        shown.map((mode, i) => ({ mode, values: values[i] })),
        state.index[0],
      );
    }
    this.readout.textContent = this.readoutText();
    const arriving = (['thick', 'thin', 'deviation'] as const)
      .map((volume) => ({ volume, arrival: this.volumes.arrival(volume) }))
      .filter(({ arrival }) => arrival !== null && arrival.ready < arrival.slices)
      .map(({ volume, arrival }) => `${MODE_NAMES[volume]}: ${arrival?.ready ?? 0} of ${arrival?.slices ?? 0} slices`);
    const notes = this.volumes.reductionOfSource > 1 ? [this.reductionText()] : [];
    this.progress.textContent = [...notes, ...arriving].join('  ');
  }

  /** Position and HU under the pointer, or at the crosshair where there is none. */
  private readoutText(): string {
    const { state } = this;
    const { renderer, grid, modes } = this.volumes;
    const index = this.hovered ?? state.index;
    const wanted: Mode[] = ['thick', state.a, state.b, 'thin', 'deviation'];
    const shown = modes.filter(
      (mode) => wanted.includes(mode) && (renderer.hasCubic || (mode !== 'cubic' && mode !== 'difference')),
    );
    const values = renderer.values(
      shown.map((mode) => rowContent(state, mode, index, [0, 0, 0])),
      1,
      1,
    );
    const parts = shown.flatMap((mode, i) =>
      Number.isNaN(values[i][0]) ? [] : [`${MODE_NAMES[mode]} ${written(values[i][0])}`],
    );
    const place = this.hovered === null ? 'Crosshair' : 'Pointer';
    return `${place}  ${positionText(positionOf(grid, index))}${parts.length > 0 ? `  |  HU:  ${parts.join(' \u00b7 ')}` : ''}`;
  }

  private reductionText(): string {
    const { reductionOfSource: reduction } = this.volumes;
    return `Reduced: ${reduction} x ${reduction} pixels are shown as one, their mean, because the volume is large.`;
  }

  private factRows(options: ViewerOptions): readonly (readonly [string, string])[] {
    const size = (grid: ViewerOptions['thin']): string => {
      const [depth, height, width] = grid.shape;
      const [step, rows, columns] = grid.spacingMm.map((mm) => (mm === null ? 'unknown' : `${Number(mm.toFixed(4))}`));
      return `${depth} slices of ${height} x ${width}; ${step} x ${rows} x ${columns} mm`;
    };
    const reduced = this.volumes.reductionOfSource > 1 ? [['Shown', this.reductionText()] as const] : [];
    return [
      ['Thick volume', size(options.thick)],
      ['Thin grid', size(options.thin)],
      ...reduced,
      ...(options.facts ?? []),
    ];
  }

  private readonly keyed = (event: KeyboardEvent): void => {
    const target = event.target instanceof Element ? event.target : null;
    if (target?.closest('input, select, dialog') != null) return;
    const inPane = target?.closest('.ts-pane') != null;
    const binding = bindingOf(event, inPane);
    if (binding === undefined) return;
    event.preventDefault();
    const shown = this.panes.some((pane) => pane.key.plane === this.focused);
    const keyTarget: KeyTarget = {
      controller: this.controller,
      plane: shown ? this.focused : (this.panes.at(0)?.key.plane ?? PLANE_NAMES[0]),
      inPane,
      toggleFullScreen: () => {
        this.toggleFullScreen();
      },
      showHelp: () => {
        this.help.showModal();
      },
    };
    binding.run(keyTarget, event.key.length === 1 ? event.key.toLowerCase() : event.key);
  };

  private toggleFullScreen(): void {
    const done = document.fullscreenElement === null ? this.root.requestFullscreen() : document.exitFullscreen();
    done.catch(() => {
      this.controller.announce('This browser does not allow full screen here.');
    });
  }

  private readonly lost = (event: Event): void => {
    event.preventDefault();
    this.controller.announce('The browser has taken the graphics memory; the pictures come back with it.');
  };

  private readonly restored = (): void => {
    this.volumes.restore();
    setAttributes(this.canvas, { 'data-restored': true });
    this.emit('restored', {});
    this.schedule();
  };
}

/** On a phone one plane: three of them would be too small to read. */
function planesFor(windowWidth: number): Partial<ViewState> {
  return windowWidth < NARROW_PIXELS ? { planes: 'axial' } : {};
}

/** Add the style sheet once to the document, or to the shadow root, that holds the element. */
function adoptStyles(element: HTMLElement): void {
  const root = element.getRootNode();
  const scope = root instanceof ShadowRoot ? root : document;
  if (adopted.has(scope)) return;
  adopted.add(scope);
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(styles);
  scope.adoptedStyleSheets.push(sheet);
}

const adopted = new WeakSet<Document | ShadowRoot>();
