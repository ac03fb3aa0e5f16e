/** Mouse, pen and fingers on a pane. */

import type { Vec3 } from '../core/geometry';
import { draggedWindow } from '../core/windowing';
import type { Controller } from './controller';
import type { Pane } from './pane';
import type { Tool } from './state';

/** Pixels of a wheel that are one slice, and pixels of a finger that are one slice. */
const WHEEL_STEP = 100;
const FINGER_STEP = 8;

/** Pixels that a finger may move and still tap. */
const TAP_PIXELS = 8;

type Gesture = Tool | 'scroll';

interface Finger {
  readonly x: number;
  readonly y: number;
}

/** What panes inform the viewer about. */
export interface PointerListener {
  /** The pointer is over a place, or has left. */
  hover(index: Vec3 | null): void;
  /** A line is being drawn in a pane, or no longer. */
  drawing(pane: Pane, line: { from: Vec3; to: Vec3 } | null): void;
}

/** Listens to the pointers of a pane. */
export class PanePointer {
  private readonly fingers = new Map<number, Finger>();
  private gesture: Gesture | null = null;
  private start = { x: 0, y: 0, window: { centreHu: 0, widthHu: 1 }, index: [0, 0, 0] as Vec3 };
  private rest = 0;
  private hasMoved = false;

  constructor(
    private readonly pane: Pane,
    private readonly controller: Controller,
    private readonly listener: PointerListener,
  ) {
    const { element, divider } = pane;
    element.addEventListener('pointerdown', this.down);
    element.addEventListener('pointermove', this.move);
    element.addEventListener('pointerup', this.up);
    element.addEventListener('pointercancel', this.up);
    element.addEventListener('pointerleave', () => {
      this.listener.hover(null);
    });
    element.addEventListener('wheel', this.wheel, { passive: false });
    element.addEventListener('dblclick', () => {
      this.controller.togglePlane(this.pane.key.plane);
    });
    element.addEventListener('contextmenu', (event) => {
      event.preventDefault();
    });
    divider.addEventListener('pointerdown', (event) => {
      event.stopPropagation();
      divider.setPointerCapture(event.pointerId);
    });
    divider.addEventListener('pointermove', (event) => {
      if (!divider.hasPointerCapture(event.pointerId)) return;
      const box = element.getBoundingClientRect();
      this.controller.set({ divider: (event.clientX - box.left) / box.width });
    });
    divider.addEventListener('dblclick', (event) => {
      event.stopPropagation();
    });
    divider.addEventListener('keydown', (event) => {
      const step = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02 }[event.key];
      const end = { Home: 0, End: 1 }[event.key];
      if (step === undefined && end === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.controller.set({ divider: end ?? this.controller.state.divider + (step ?? 0) });
    });
  }

  private readonly down = (event: PointerEvent): void => {
    this.pane.element.focus({ preventScroll: true });
    this.pane.element.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.fingers.size > 1) {
      if (this.gesture === 'measure') this.listener.drawing(this.pane, null);
      this.gesture = null;
      return;
    }
    const { state } = this.controller;
    this.start = {
      x: event.clientX,
      y: event.clientY,
      window: state.window,
      index: this.pane.indexAt(event.clientX, event.clientY),
    };
    this.rest = 0;
    this.hasMoved = false;
    const touches = event.pointerType === 'touch';
    this.gesture =
      event.button === 2
        ? 'window'
        : event.button === 1
          ? 'pan'
          : touches && state.tool === 'crosshair'
            ? 'scroll'
            : state.tool;
    if (event.button === 1) event.preventDefault();
    if (this.gesture === 'crosshair') this.placeCrosshair(event);
  };

  private readonly move = (event: PointerEvent): void => {
    const before = this.fingers.get(event.pointerId);
    if (before === undefined) {
      this.listener.hover(this.pane.indexAt(event.clientX, event.clientY));
      return;
    }
    const now = { x: event.clientX, y: event.clientY };
    if (this.fingers.size > 1) this.pinch(event.pointerId, before, now);
    this.fingers.set(event.pointerId, now);
    if (this.fingers.size > 1) return;
    const [right, down] = [now.x - this.start.x, now.y - this.start.y];
    if (Math.hypot(right, down) > TAP_PIXELS) this.hasMoved = true;
    const { plane } = this.pane.key;
    if (this.gesture === 'crosshair') {
      this.placeCrosshair(event);
    } else if (this.gesture === 'window') {
      this.controller.setWindow(draggedWindow(this.start.window, right, down));
    } else if (this.gesture === 'pan') {
      const scale = this.pane.view(this.controller.state).pixelsPerMm;
      this.controller.pan(plane, (now.x - before.x) / scale, (now.y - before.y) / scale);
    } else if (this.gesture === 'measure') {
      const to = this.pane.indexAt(now.x, now.y);
      this.listener.drawing(this.pane, { from: this.start.index, to });
    } else if (this.gesture === 'scroll' && this.hasMoved) {
      this.rest += (now.y - before.y) / FINGER_STEP;
      this.scrollWhole();
    }
    this.listener.hover(this.pane.indexAt(now.x, now.y));
  };

  private readonly up = (event: PointerEvent): void => {
    if (!this.fingers.delete(event.pointerId) || this.fingers.size > 0) return;
    if (event.type === 'pointerup') {
      if (this.gesture === 'scroll' && !this.hasMoved) this.placeCrosshair(event);
      if (this.gesture === 'measure' && this.hasMoved) {
        const to = this.pane.indexAt(event.clientX, event.clientY);
        this.controller.addLine(this.pane.key.plane, this.start.index, to);
      }
    }
    this.listener.drawing(this.pane, null);
    this.gesture = null;
  };

  private readonly wheel = (event: WheelEvent): void => {
    event.preventDefault();
    const pixels = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY : event.deltaY * (WHEEL_STEP / 3);
    if (event.ctrlKey || event.metaKey) {
      // A pinch on a touchpad arrives as a wheel with Ctrl.
      const about = this.pane.pictureAt(event.clientX, event.clientY);
      this.controller.zoomBy(Math.exp(-pixels / 300), this.pane.key.plane, about);
      return;
    }
    this.rest += pixels / WHEEL_STEP;
    this.scrollWhole();
  };

  private placeCrosshair(event: PointerEvent): void {
    this.controller.placeCrosshair(this.pane.key.plane, this.pane.pictureAt(event.clientX, event.clientY));
  }

  private scrollWhole(): void {
    const slices = Math.trunc(this.rest);
    if (slices === 0) return;
    this.rest -= slices;
    this.controller.scroll(this.pane.key.plane, slices);
  }

  /** Two fingers: move by the mean of both, zoom by their distance. */
  private pinch(id: number, before: Finger, now: Finger): void {
    const other = [...this.fingers].find(([known]) => known !== id)?.[1];
    if (other === undefined) return;
    const { plane } = this.pane.key;
    const scale = this.pane.view(this.controller.state).pixelsPerMm;
    this.controller.pan(plane, (now.x - before.x) / 2 / scale, (now.y - before.y) / 2 / scale);
    const [was, is] = [before, now].map((finger) => Math.hypot(finger.x - other.x, finger.y - other.y));
    if (was < 1 || is < 1) return;
    const about = this.pane.pictureAt((now.x + other.x) / 2, (now.y + other.y) / 2);
    this.controller.zoomBy(is / was, plane, about);
  }
}
