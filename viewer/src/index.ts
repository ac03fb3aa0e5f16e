/** Names that pages use, as `ThinsliceViewer.NAME`. */

export { GridError, type Grid, type Vec3 } from './core/geometry';
export { unpackVoxels } from './core/packing';
export type { PlaneName } from './core/planes';
export type { Mode } from './core/sampling';
export type { WindowHu } from './core/windowing';
export { GraphicsError, type VolumeName } from './gl/renderer';
export { openEmbedded } from './embedded';
export type { ViewState } from './ui/state';
export { createViewer, Viewer, type ViewerEvents, type ViewerOptions } from './viewer';
