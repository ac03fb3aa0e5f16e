/** Textures and drawing: volumes as 16-bit integer textures, one program, one triangle a pane. */

import { colourTable, TABLE_WIDTH } from '../core/colours';
import type { DepthMap, Vec3 } from '../core/geometry';
import type { Mode } from '../core/sampling';
import { fragmentShader, variantName, VERTEX_SHADER, type Variant } from './shader';

/** A browser that cannot show volumes, or memory that is short; the message is for the reader of the page. */
export class GraphicsError extends Error {
  override readonly name = 'GraphicsError';
}

export type VolumeName = 'thick' | 'thin' | 'deviation';

/** What the renderer has to know about the volumes. */
export interface Scene {
  readonly thickShape: Vec3;
  readonly thinShape: Vec3;
  readonly depth: DepthMap;
  readonly hasDeviation: boolean;
  readonly hasThin: boolean;
  readonly deviationStepHu: number;
  readonly paddingHu: number | null;
}

/** A rectangle of the canvas, pixels; y runs up from the lower border. */
export interface Rectangle {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** What a pane shows; places are (depth, height, width) indices on the thin grid. */
export interface PaneContent {
  readonly left: Mode;
  readonly right: Mode;
  /** Pixels from the pane's left border at which `right` begins. */
  readonly divider: number;
  /** Place at the centre of the lower left pixel, and the step to the next pixel right and up. */
  readonly origin: Vec3;
  readonly across: Vec3;
  readonly up: Vec3;
  readonly slabSteps: number;
  readonly slabMaximum: boolean;
  readonly slabStep: Vec3;
  readonly windowLowHu: number;
  readonly windowWidthHu: number;
  readonly mostDeviationHu: number;
  readonly mostDifferenceHu: number;
  readonly overlay: 'difference' | 'deviation' | null;
  readonly opacity: number;
}

const UNITS = { thick: 0, thin: 1, deviation: 2, moments: 3, colours: 4 } as const;

/** No HU of a 16-bit volume. */
const NO_PADDING = -2147483647;

/** A compiled variant of the shader, and the places of its uniforms. */
interface Program {
  readonly handle: WebGLProgram;
  readonly places: Map<string, WebGLUniformLocation | null>;
}

/** WebGL2 of a canvas. */
export class Renderer {
  private readonly gl: WebGL2RenderingContext;
  private readonly programs = new Map<string, Program>();
  private readonly ready = { thick: 0, thin: 0, deviation: 0 };
  private hasMoments = false;
  private readonly textures: WebGLTexture[] = [];

  /**
   * @throws GraphicsError without WebGL2, or when the textures do not fit.
   */
  constructor(
    readonly canvas: HTMLCanvasElement,
    private readonly scene: Scene,
  ) {
    this.gl = contextOf(canvas);
    const { gl } = this;
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 2);
    const none: Vec3 = [1, 1, 1];
    this.volumeTexture('thick', scene.thickShape, gl.R16I);
    this.volumeTexture('thin', scene.hasThin ? scene.thinShape : none, gl.R16I);
    this.volumeTexture('deviation', scene.hasDeviation ? scene.thinShape : none, gl.R16I);
    this.volumeTexture('moments', none, gl.R32F);
    this.colourTexture();
    const fault = gl.getError();
    if (fault !== gl.NO_ERROR) {
      this.dispose();
      throw new GraphicsError(
        fault === gl.OUT_OF_MEMORY
          ? 'The volumes do not fit into the graphics memory.'
          : `The graphics driver refused the volumes (error ${fault}).`,
      );
    }
  }

  /** Voxels that a texture may have along an axis on this device. */
  static longestAxis(canvas: HTMLCanvasElement): number {
    const gl = contextOf(canvas);
    return gl.getParameter(gl.MAX_3D_TEXTURE_SIZE) as number;
  }

  get isLost(): boolean {
    return this.gl.isContextLost();
  }

  /** Free the textures and the programs. */
  dispose(): void {
    for (const texture of this.textures) this.gl.deleteTexture(texture);
    for (const { handle } of this.programs.values()) this.gl.deleteProgram(handle);
  }

  /** Write slices of a volume; `ready` slices from the first on can then be shown. */
  upload(volume: VolumeName, firstSlice: number, voxels: Int16Array, ready: number): void {
    const { gl } = this;
    const [, height, width] = volume === 'thick' ? this.scene.thickShape : this.scene.thinShape;
    gl.activeTexture(gl.TEXTURE0 + UNITS[volume]);
    const slices = voxels.length / (height * width);
    gl.texSubImage3D(gl.TEXTURE_3D, 0, 0, 0, firstSlice, width, height, slices, gl.RED_INTEGER, gl.SHORT, voxels);
    this.ready[volume] = ready;
  }

  /** Take the moments of the whole thick volume, from which on cubic interpolation can be shown. */
  uploadMoments(moments: Float32Array): void {
    const { gl } = this;
    const [depth, height, width] = this.scene.thickShape;
    this.volumeTexture('moments', this.scene.thickShape, gl.R32F);
    gl.texSubImage3D(gl.TEXTURE_3D, 0, 0, 0, 0, width, height, depth, gl.RED, gl.FLOAT, moments);
    this.hasMoments = true;
  }

  get hasCubic(): boolean {
    return this.hasMoments;
  }

  /** Make the whole canvas black. */
  clear(): void {
    const { gl } = this;
    gl.disable(gl.SCISSOR_TEST);
    gl.clearColor(0, 0, 0, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.enable(gl.SCISSOR_TEST);
  }

  /** Draw a pane: what is left of the divider, then what is right of it. */
  draw(rectangle: Rectangle, content: PaneContent, encodes = false): void {
    const { gl } = this;
    const { x, y, width, height } = rectangle;
    gl.viewport(x, y, width, height);
    const divider = Math.min(Math.max(Math.round(content.divider), 0), width);
    const sides = content.left === content.right ? [0, width] : [0, divider, width];
    for (let side = 0; side + 1 < sides.length; side++) {
      const mode = side === 0 && divider > 0 ? content.left : content.right;
      if (sides[side] === sides[side + 1]) continue;
      this.use(content, mode, rectangle, encodes);
      gl.scissor(x + sides[side], y, sides[side + 1] - sides[side], height);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
    }
  }

  /**
   * Values of several panes' pixels, by the same shader.
   *
   * @returns for each pane (height, width) HU, the upper row first; NaN where there is none. Exact to 1/512 HU.
   */
  values(contents: readonly PaneContent[], width: number, height: number): readonly Float32Array[] {
    const { gl } = this;
    const rows = height * contents.length;
    const target = gl.createFramebuffer();
    const buffer = gl.createRenderbuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, target);
    gl.bindRenderbuffer(gl.RENDERBUFFER, buffer);
    gl.renderbufferStorage(gl.RENDERBUFFER, gl.RGBA8, width, rows);
    gl.framebufferRenderbuffer(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.RENDERBUFFER, buffer);
    contents.forEach((content, i) => {
      this.draw({ x: 0, y: i * height, width, height }, content, true);
    });
    const bytes = new Uint8Array(width * rows * 4);
    gl.readPixels(0, 0, width, rows, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.deleteRenderbuffer(buffer);
    gl.deleteFramebuffer(target);
    return contents.map((_, i) => decoded(bytes, width, i * height, height));
  }

  /** Choose the program for one mode of a pane, and set everything that it reads. */
  private use(content: PaneContent, mode: Mode, rectangle: Rectangle, encodes: boolean): void {
    const { gl, scene } = this;
    const program = this.programOf({
      mode,
      overlay: encodes || mode === 'difference' || mode === 'deviation' ? null : content.overlay,
      isSlab: content.slabSteps > 1,
      mixes: [isBetween(content, 0), isBetween(content, 1), isBetween(content, 2)],
      encodes,
    });
    gl.useProgram(program.handle);
    const place = (name: string): WebGLUniformLocation | null => {
      let found = program.places.get(name);
      if (found === undefined) {
        found = gl.getUniformLocation(program.handle, name);
        program.places.set(name, found);
      }
      return found;
    };
    // (depth, height, width) here is (width, height, depth) in textures.
    const vector = (name: string, value: Vec3): void => {
      gl.uniform3f(place(name), value[2], value[1], value[0]);
    };
    for (const [name, unit] of Object.entries(UNITS)) {
      gl.uniform1i(place(`u${name[0].toUpperCase()}${name.slice(1)}`), unit);
    }
    gl.uniform3i(place('uThickSize'), scene.thickShape[2], scene.thickShape[1], scene.thickShape[0]);
    gl.uniform3i(place('uThinSize'), scene.thinShape[2], scene.thinShape[1], scene.thinShape[0]);
    gl.uniform2f(place('uDepthMap'), scene.depth.start, scene.depth.step);
    gl.uniform1i(place('uPadding'), scene.paddingHu ?? NO_PADDING);
    gl.uniform1f(place('uDeviationStep'), scene.deviationStepHu);
    gl.uniform1i(place('uHasMoments'), this.hasMoments ? 1 : 0);
    gl.uniform3i(place('uReady'), this.ready.thick, this.ready.thin, this.ready.deviation);
    gl.uniform2f(place('uPane'), rectangle.x, rectangle.y);
    vector('uOrigin', content.origin);
    vector('uAcross', content.across);
    vector('uUp', content.up);
    gl.uniform1i(place('uSlabSteps'), content.slabSteps);
    gl.uniform1i(place('uSlabMaximum'), content.slabMaximum ? 1 : 0);
    vector('uSlabStep', content.slabStep);
    gl.uniform2f(place('uWindow'), content.windowLowHu, content.windowWidthHu);
    gl.uniform2f(place('uMost'), content.mostDeviationHu, content.mostDifferenceHu);
    gl.uniform1f(place('uOpacity'), content.opacity);
  }

  private volumeTexture(name: keyof typeof UNITS, shape: Vec3, format: number): void {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0 + UNITS[name]);
    const texture = gl.createTexture();
    this.textures.push(texture);
    gl.bindTexture(gl.TEXTURE_3D, texture);
    gl.texStorage3D(gl.TEXTURE_3D, 1, format, shape[2], shape[1], shape[0]);
    // Integer and 32-bit float textures have no filter of their own.
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
      gl.texParameteri(gl.TEXTURE_3D, filter, gl.NEAREST);
    }
  }

  private colourTexture(): void {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0 + UNITS.colours);
    const texture = gl.createTexture();
    this.textures.push(texture);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, TABLE_WIDTH, 2);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, TABLE_WIDTH, 2, gl.RGBA, gl.UNSIGNED_BYTE, colourTable());
    for (const parameter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
      gl.texParameteri(gl.TEXTURE_2D, parameter, gl.NEAREST);
    }
    for (const parameter of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) {
      gl.texParameteri(gl.TEXTURE_2D, parameter, gl.CLAMP_TO_EDGE);
    }
  }

  private programOf(variant: Variant): Program {
    const name = variantName(variant);
    const known = this.programs.get(name);
    if (known !== undefined) return known;
    const made = { handle: linked(this.gl, fragmentShader(variant)), places: new Map<string, WebGLUniformLocation>() };
    this.programs.set(name, made);
    return made;
  }
}

/** Whether places of a pane lie between voxels along an axis. */
function isBetween(content: PaneContent, axis: 0 | 1 | 2): boolean {
  return [content.origin, content.across, content.up].some((vector) => !Number.isInteger(vector[axis]));
}

function linked(gl: WebGL2RenderingContext, fragment: string): WebGLProgram {
  const program = gl.createProgram();
  for (const [kind, source] of [
    [gl.VERTEX_SHADER, VERTEX_SHADER],
    [gl.FRAGMENT_SHADER, fragment],
  ] as const) {
    const shader = gl.createShader(kind);
    if (shader === null) throw new GraphicsError('The graphics were reset; load the page again.');
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (gl.getShaderParameter(shader, gl.COMPILE_STATUS) !== true && !gl.isContextLost()) {
      throw new GraphicsError(`The graphics driver refused a shader: ${gl.getShaderInfoLog(shader) ?? ''}`);
    }
    gl.attachShader(program, shader);
    gl.deleteShader(shader);
  }
  gl.linkProgram(program);
  if (gl.getProgramParameter(program, gl.LINK_STATUS) !== true && !gl.isContextLost()) {
    throw new GraphicsError(`The graphics driver refused the shader: ${gl.getProgramInfoLog(program) ?? ''}`);
  }
  return program;
}

function contextOf(canvas: HTMLCanvasElement): WebGL2RenderingContext {
  const gl = canvas.getContext('webgl2', { antialias: false, alpha: false, depth: false, stencil: false });
  if (gl === null) {
    throw new GraphicsError(
      'This browser has no WebGL2, which the viewer needs. Use a current Firefox, Chrome, Edge or Safari, and allow ' +
        'hardware acceleration in its settings.',
    );
  }
  return gl;
}

/** Values out of the colours that the shader writes with `uEncode`; rows of the target run up, those of the result down. */
function decoded(bytes: Uint8Array, width: number, firstRow: number, height: number): Float32Array {
  const values = new Float32Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = ((firstRow + height - 1 - y) * width + x) * 4;
      const code = bytes[from] + bytes[from + 1] * 256 + bytes[from + 2] * 65536;
      values[y * width + x] = bytes[from + 3] === 0 ? Number.NaN : code / 256 - 32768;
    }
  }
  return values;
}
