/** NIfTI-1 and NIfTI-2, plain or gzip, to volumes and back (`thinslice.io.nifti` in Python). */

import { diagonal, isInvertible, largestShiftMm, times, type Affine } from '../core/affine';
import { columnLength, determinant } from '../core/affine';
import { PageError } from '../core/errors';
import type { Voxels } from '../core/intensity';
import { paddingBelowWindow } from '../core/padding';
import { affineInFileOrder, shapeInFileOrder, type FileAxes, type Orientations, type Volume } from '../core/volume';
import type { Grid, Vec3 } from '../../../viewer/src/core/geometry';
import { ByteStream } from './byte_stream';
import { bytesOf, toHu } from './hu_reader';
import {
  checkedSpacing,
  LONGEST_HEADER_BYTES,
  parseHeader,
  POSITION_TOLERANCE_MM,
  quaternionAffine,
} from './nifti_header';

/** More than any CT that a browser can hold. */
const MOST_VOXELS = 2 ** 30;

/** The largest spacing names the depth axis when no other comes within this fraction of it. */
const CLEAR_MARGIN = 0.05;

/**
 * Read a volume.
 *
 * The sform gives positions if it is set, else the qform, else the spacing alone. The depth axis is the one with the
 * largest spacing.
 *
 * @throws PageError for a file that is no CT in HU; the message is for the reader of the page.
 */
export async function readNifti(file: Blob): Promise<Volume> {
  const stream = await ByteStream.open(file);
  try {
    const head = new Uint8Array(LONGEST_HEADER_BYTES);
    const got = await stream.read(head);
    const header = parseHeader(new DataView(head.buffer, 0, got));
    const spacing = checkedSpacing(header.affineRas);
    const { axes, isAmbiguous } = chooseAxes(spacing, header.sliceAxis);
    const count = header.shape[0] * header.shape[1] * header.shape[2];
    const shown = header.shape.join(' x ');
    if (header.offset + count * bytesOf(header.stored) > stream.mostBytes) {
      throw new PageError(
        `The file cannot hold the ${shown} voxels its header declares; it is cut short, damaged or hostile; copy or download it again.`,
      );
    }
    if (count > MOST_VOXELS) {
      throw new PageError(`The file declares ${shown} voxels, more than a browser can hold; crop it first.`);
    }
    const bytes = new Uint8Array(count * bytesOf(header.stored));
    // What came with the header is the beginning of the voxels, or of an extension before them.
    const ahead = head.subarray(Math.min(header.offset, got), got);
    bytes.set(ahead.subarray(0, bytes.length));
    if (header.offset > got) await stream.skip(header.offset - got);
    const rest = bytes.subarray(Math.min(ahead.length, bytes.length));
    if ((await stream.read(rest)) < rest.length) {
      throw new PageError('The file is cut short; copy or download it again.');
    }
    const { hu, warnings } = toHu(bytes, header.stored, header.isLittleEndian, header.slope, header.intercept);
    const inOrder = toDepthFirst(hu, header.shape, axes);
    const notes = [...header.warnings, ...warnings];
    if (isAmbiguous) {
      notes.push(`Two axes share the largest spacing, so the through-plane axis is a guess (axis ${axes[0]}).`);
    }
    return {
      hu: inOrder,
      grid: gridOf(header.affineRas, header.shape, axes),
      thicknessMm: null,
      paddingHu: paddingBelowWindow(inOrder),
      axes,
      isAxisAmbiguous: isAmbiguous,
      orientations: header.orientations,
      warnings: notes,
    };
  } finally {
    await stream.close();
  }
}

/** The file's axis for depth, height and width: the largest spacing is the depth's. */
export function chooseAxes(
  spacingMm: readonly number[],
  sliceAxis: number | null,
): { readonly axes: FileAxes; readonly isAmbiguous: boolean } {
  const widest = [0, 1, 2].sort((a, b) => spacingMm[b] - spacingMm[a]);
  const isAmbiguous = spacingMm[widest[1]] >= spacingMm[widest[0]] * (1 - CLEAR_MARGIN);
  const depth = isAmbiguous ? (sliceAxis ?? 2) : widest[0];
  const [width, height] = [0, 1, 2].filter((axis) => axis !== depth);
  return { axes: [depth, height, width], isAmbiguous };
}

/** The grid in LPS of a file's voxels in (depth, height, width) order. */
export function gridOf(affineRas: Affine, shape: readonly [number, number, number], axes: FileAxes): Grid {
  const signs: Vec3 = [-1, -1, 1];
  const steps = axes.map((axis) => columnLength(affineRas, axis)) as [number, number, number];
  const row = (r: 0 | 1 | 2): Vec3 => {
    const [d, h, w] = axes.map((axis, i) => (signs[r] * affineRas[4 * r + axis]) / steps[i]);
    return [d, h, w];
  };
  return {
    shape: [shape[axes[0]], shape[axes[1]], shape[axes[2]]],
    spacingMm: steps,
    originMm: [-affineRas[3], -affineRas[7], affineRas[11]],
    direction: [row(0), row(1), row(2)],
  };
}

/** Voxels in (depth, height, width) order, of those in the file's order, whose axis 0 runs fastest. */
function toDepthFirst(hu: Voxels, shape: readonly [number, number, number], axes: FileAxes): Voxels {
  if (axes[0] === 2 && axes[1] === 1) return hu;
  return reordered(hu, [shape[axes[0]], shape[axes[1]], shape[axes[2]]], strides(shape, axes));
}

/** Voxels in the file's order, of those in (depth, height, width) order: the inverse of `toDepthFirst`. */
function toFileOrder(hu: Voxels, grid: Grid, axes: FileAxes): Voxels {
  if (axes[0] === 2 && axes[1] === 1) return hu;
  const [, height, width] = grid.shape;
  const depthFirst = [height * width, width, 1];
  const stepOf = (fileAxis: number): number => depthFirst[axes.indexOf(fileAxis)];
  const [x, y, z] = shapeInFileOrder(grid, axes);
  return reordered(hu, [z, y, x], [stepOf(2), stepOf(1), stepOf(0)]);
}

function strides(shape: readonly [number, number, number], axes: FileAxes): [number, number, number] {
  const steps = [1, shape[0], shape[0] * shape[1]];
  return [steps[axes[0]], steps[axes[1]], steps[axes[2]]];
}

function reordered(
  hu: Voxels,
  [slow, middle, fast]: readonly [number, number, number],
  [a, b, c]: readonly [number, number, number],
): Voxels {
  const out = hu instanceof Int16Array ? new Int16Array(hu.length) : new Float32Array(hu.length);
  for (let i = 0, at = 0; i < slow; i++) {
    for (let j = 0; j < middle; j++) for (let k = 0; k < fast; k++, at++) out[at] = hu[i * a + j * b + k * c];
  }
  return out;
}

/** What a NIfTI file says beside its voxels. */
export interface Written {
  readonly grid: Grid;
  readonly axes: FileAxes;
  readonly orientations: Orientations;
  /** At most 79 characters of ASCII. */
  readonly description: string;
  /** What a stored number stands for, times one unit; 1 for HU. */
  readonly slope?: number;
}

/** Parts of a .nii file: header, and voxels in the file's order. */
export function niftiParts(hu: Voxels, written: Written): Uint8Array<ArrayBuffer>[] {
  const voxels = toFileOrder(hu, written.grid, written.axes);
  return [
    niftiHeader(written, voxels instanceof Int16Array),
    new Uint8Array(voxels.buffer, voxels.byteOffset, voxels.byteLength),
  ];
}

/**
 * The header of NIfTI-1, and the four bytes for "no extension".
 *
 * The sform holds the matrix; the qform holds it too where a quaternion of 32-bit numbers represents it to 0.001 mm.
 */
export function niftiHeader(
  { grid, axes, orientations, description, slope = 1 }: Written,
  isInt16: boolean,
): Uint8Array<ArrayBuffer> {
  const affine = affineInFileOrder(grid, axes);
  const shape = shapeInFileOrder(grid, axes);
  const plain = diagonal(columnLength(affine, 0), columnLength(affine, 1), columnLength(affine, 2));
  let { sformCode, qformCode } = orientations;
  let other: Affine = affine;
  if (sformCode === 0 && qformCode === 0) {
    if (largestShiftMm(affine, plain, shape) > 0) [sformCode, qformCode] = [1, 1];
  } else if (orientations.otherWorld !== null) other = times(orientations.otherWorld, affine);
  const rotation = isInvertible(other) ? quaternionOf(other) : null;
  if (rotation !== null && qformCode > 0) {
    const stated = quaternionAffine(rotation.quaternion, rotation.steps, rotation.offset);
    if (largestShiftMm(other, stated, shape) > POSITION_TOLERANCE_MM) {
      sformCode = sformCode === 0 ? qformCode : sformCode;
      qformCode = 0;
    }
  }
  const bytes = new Uint8Array(352);
  const view = new DataView(bytes.buffer);
  const [int16, float] = [
    (at: number, value: number) => {
      view.setInt16(at, value, true);
    },
    (at: number, value: number) => {
      view.setFloat32(at, value, true);
    },
  ];
  view.setInt32(0, 348, true);
  bytes[39] = (axes[0] + 1) << 4;
  int16(40, 3);
  [1, 2, 3, 4, 5, 6, 7].forEach((axis) => {
    int16(40 + 2 * axis, shape[axis - 1] ?? 1);
    float(76 + 4 * axis, axis <= 3 ? columnLength(affine, axis - 1) : 1);
  });
  float(76, rotation !== null && rotation.steps[2] < 0 ? -1 : 1);
  int16(70, isInt16 ? 4 : 16);
  int16(72, isInt16 ? 16 : 32);
  float(108, 352);
  float(112, slope);
  bytes[123] = 2;
  new TextEncoder().encodeInto(description.slice(0, 79), bytes.subarray(148, 228));
  int16(252, qformCode);
  int16(254, sformCode);
  if (rotation !== null) {
    [...rotation.quaternion, ...rotation.offset].forEach((value, i) => {
      float(256 + 4 * i, value);
    });
  }
  affine.slice(0, 12).forEach((value, i) => {
    float(280 + 4 * i, value);
  });
  new TextEncoder().encodeInto('n+1', bytes.subarray(344));
  return bytes;
}

/** Quaternion (b, c, d) rounded to 32 bits, steps (the third one negative for a mirrored grid) and offset of a matrix. */
function quaternionOf(affine: Affine): {
  readonly quaternion: [number, number, number];
  readonly steps: [number, number, number];
  readonly offset: [number, number, number];
} {
  const steps: [number, number, number] = [columnLength(affine, 0), columnLength(affine, 1), columnLength(affine, 2)];
  if (determinant(affine) < 0) steps[2] = -steps[2];
  const r = (row: number, column: number): number => affine[4 * row + column] / steps[column];
  const [xx, yy, zz] = [r(0, 0), r(1, 1), r(2, 2)];
  // The largest of the four components is taken from the diagonal, so that none is divided by a small one.
  const squares = [1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz];
  const largest = squares.indexOf(Math.max(...squares));
  const root = Math.sqrt(squares[largest]);
  const candidates: readonly (readonly number[])[] = [
    [squares[0], r(2, 1) - r(1, 2), r(0, 2) - r(2, 0), r(1, 0) - r(0, 1)],
    [r(2, 1) - r(1, 2), squares[1], r(0, 1) + r(1, 0), r(0, 2) + r(2, 0)],
    [r(0, 2) - r(2, 0), r(0, 1) + r(1, 0), squares[2], r(1, 2) + r(2, 1)],
    [r(1, 0) - r(0, 1), r(0, 2) + r(2, 0), r(1, 2) + r(2, 1), squares[3]],
  ];
  const [a, ...bcd] = candidates[largest].map((value) => value / (2 * root));
  const sign = a < 0 ? -1 : 1;
  const length = Math.hypot(a, ...bcd);
  const [b, c, d] = bcd.map((value) => Math.fround((sign * value) / length));
  return { quaternion: [b, c, d], steps, offset: [affine[3], affine[7], affine[11]] };
}
