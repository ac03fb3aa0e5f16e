/**
 * The one shader of all views. Its arithmetic is that of `src/core/sampling.ts`; names and order are the same.
 *
 * It is compiled once for each variant that is needed, so that a picture costs only the voxels that it shows: a
 * processor that stands in for graphics hardware carries out every branch of a shader, taken or not.
 *
 * Integer textures cannot be filtered by the hardware, so voxels are fetched and mixed here. Coordinates in the shader
 * are (width, height, depth), the order of a texture's axes.
 */

import { NETWORK_WINDOW_HU, POSITION_TOLERANCE, type Mode } from '../core/sampling';

/** What is fixed when the shader is compiled. */
export interface Variant {
  readonly mode: Mode;
  readonly overlay: 'difference' | 'deviation' | null;
  /** Whether several places along the slab's step are combined. */
  readonly isSlab: boolean;
  /** Whether places lie between voxels along (depth, height, width). */
  readonly mixes: readonly [boolean, boolean, boolean];
  /** Whether values are written, not colours. */
  readonly encodes: boolean;
}

/** A name for a variant; equal variants have equal names. */
export function variantName(variant: Variant): string {
  return [variant.mode, variant.overlay, variant.isSlab, ...variant.mixes, variant.encodes].join(' ');
}

/** One triangle that covers the viewport. */
export const VERTEX_SHADER = `#version 300 es
void main() {
  vec2 corner = vec2((gl_VertexID << 1) & 2, gl_VertexID & 2);
  gl_Position = vec4(corner * 2.0 - 1.0, 0.0, 1.0);
}`;

/** Modes that have voxels of their own; the difference is made of two of them. */
type SimpleMode = Exclude<Mode, 'difference'>;

const decimal = (value: number): string => (Number.isInteger(value) ? `${value}.0` : String(value));

const capital = (mode: Mode): string => mode[0].toUpperCase() + mode.slice(1);

/** The fragment shader of a variant. */
export function fragmentShader(variant: Variant): string {
  const shown = variant.overlay === null ? [variant.mode] : [variant.mode, variant.overlay];
  const needed = new Set(shown.flatMap((mode): SimpleMode[] => (mode === 'difference' ? ['thin', 'cubic'] : [mode])));
  return [
    HEAD,
    ...[...needed].map((mode) => VOXEL_VALUES[mode]),
    ...[...needed].map((mode) => `${mixed(mode, variant)}\n${combined(mode, variant)}`),
    ...(shown.includes('difference') ? [DIFFERENCE] : []),
    main(variant),
  ].join('\n');
}

const HEAD = `#version 300 es
precision highp float;
precision highp int;
precision highp isampler3D;
precision highp sampler3D;

const float MISSING = -1.0e6;      // at or below: there is no value
const float TOLERANCE = ${decimal(POSITION_TOLERANCE)};
const float LOW = ${decimal(NETWORK_WINDOW_HU[0])}, HIGH = ${decimal(NETWORK_WINDOW_HU[1])};

uniform isampler3D uThick, uThin, uDeviation;
uniform sampler3D uMoments;
uniform sampler2D uColours;
uniform ivec3 uThickSize, uThinSize;
uniform vec2 uDepthMap;             // start, step: thin slice j lies at thick index start + step * j
uniform ivec3 uReady;               // slices of thick, thin and deviation that have arrived
uniform bool uHasMoments;
uniform int uPadding;               // HU, or a number that no voxel has
uniform float uDeviationStep;

uniform vec2 uPane;                 // lower left corner of the pane, pixels
uniform vec3 uOrigin, uAcross, uUp; // thin index of the pane's first pixel, and of a step right and up
uniform int uSlabSteps;
uniform bool uSlabMaximum;
uniform vec3 uSlabStep;
uniform vec2 uWindow;               // lower border, width
uniform vec2 uMost;                 // ends of the scales of deviations and differences, HU
uniform float uOpacity;

out vec4 colour;

float insideWindow(float hu) { return clamp(hu, LOW, HIGH); }

float networkInput(int hu) { return hu == uPadding ? LOW : insideWindow(float(hu)); }

float excess(int hu) { return hu == uPadding ? 0.0 : float(hu) - insideWindow(float(hu)); }

// Place of a thin slice among thick ones.
struct Between { int below, upper, nearest; float share; bool exists; };

Between between(int slice) {
  int slices = uThickSize.z;
  float at = uDepthMap.x + uDepthMap.y * float(slice);
  float inside = clamp(at, 0.0, float(slices - 1));
  Between place;
  place.below = min(int(floor(inside + TOLERANCE)), max(slices - 2, 0));
  place.upper = min(place.below + 1, slices - 1);
  place.share = clamp(inside - float(place.below), 0.0, 1.0);
  place.nearest = min(int(floor(inside + 0.5 + TOLERANCE)), slices - 1);
  place.exists = at >= -0.5 - TOLERANCE && at <= float(slices) - 0.5 + TOLERANCE;
  return place;
}

// What interpolation made, with what the thick voxels have beyond the networks' window, and padding.
float restored(float made, Between place, int y0, int y1) {
  float e0 = excess(y0), e1 = excess(y1);
  bool isLower = place.nearest == place.below;
  bool owned = abs(place.share - 0.5) < TOLERANCE ? e0 != 0.0 && e1 != 0.0 : (isLower ? e0 : e1) != 0.0;
  int nearest = isLower ? y0 : y1;
  float value = owned ? made + e0 * (1.0 - place.share) + e1 * place.share : made;
  value = nearest == uPadding ? float(nearest) : value;
  return place.exists && place.upper < uReady.x ? value : MISSING;
}

// Blends two values; a missing one makes the result missing where it has weight.
float blend(float a, float b, float share) {
  float value = share < TOLERANCE ? a : mix(a, b, share);
  return share >= TOLERANCE && min(a, b) <= MISSING ? MISSING : value;
}

bool isOutside(vec3 place) {
  return any(lessThan(place, vec3(-0.5))) || any(greaterThan(place, vec3(uThinSize) - 0.5));
}
`;

/** Value of each mode at a voxel of the thin grid. */
const VOXEL_VALUES: Readonly<Record<SimpleMode, string>> = {
  thick: `
float voxelThick(ivec3 voxel) {
  Between place = between(voxel.z);
  float value = float(texelFetch(uThick, ivec3(voxel.xy, place.nearest), 0).r);
  return place.exists && place.nearest < uReady.x ? value : MISSING;
}`,
  linear: `
float voxelLinear(ivec3 voxel) {
  Between place = between(voxel.z);
  int y0 = texelFetch(uThick, ivec3(voxel.xy, place.below), 0).r;
  int y1 = texelFetch(uThick, ivec3(voxel.xy, place.upper), 0).r;
  return restored(mix(networkInput(y0), networkInput(y1), place.share), place, y0, y1);
}`,
  cubic: `
float voxelCubic(ivec3 voxel) {
  Between place = between(voxel.z);
  ivec3 lower = ivec3(voxel.xy, place.below), upper = ivec3(voxel.xy, place.upper);
  int y0 = texelFetch(uThick, lower, 0).r, y1 = texelFetch(uThick, upper, 0).r;
  float m0 = texelFetch(uMoments, lower, 0).r, m1 = texelFetch(uMoments, upper, 0).r;
  float share = place.share, rest = 1.0 - share;
  float made = rest * networkInput(y0) + share * networkInput(y1)
    + ((rest * rest * rest - rest) * m0 + (share * share * share - share) * m1) / 6.0;
  return uHasMoments ? restored(insideWindow(made), place, y0, y1) : MISSING;
}`,
  thin: `
float voxelThin(ivec3 voxel) {
  return voxel.z < uReady.y ? float(texelFetch(uThin, voxel, 0).r) : MISSING;
}`,
  deviation: `
float voxelDeviation(ivec3 voxel) {
  return voxel.z < uReady.z ? float(texelFetch(uDeviation, voxel, 0).r) * uDeviationStep : MISSING;
}`,
};

/** One mode at a place of the thin grid that is inside, mixed from the voxels around it. */
function mixed(mode: SimpleMode, variant: Variant): string {
  const name = capital(mode);
  const [depth, height, width] = variant.mixes;
  const keepsSteps = mode === 'thick';
  const voxel = (x: string, y: string, z: string): string => `voxel${name}(ivec3(${x}.x, ${y}.y, ${z}.z))`;
  const along = (y: string, z: string): string =>
    width ? `blend(${voxel('low', y, z)}, ${voxel('high', y, z)}, share.x)` : voxel('low', y, z);
  const inSlice = (z: string): string =>
    height ? `blend(${along('low', z)}, ${along('high', z)}, share.y)` : along('low', z);
  const value = depth && !keepsSteps ? `blend(${inSlice('low')}, ${inSlice('high')}, share.z)` : inSlice('low');
  return `
float mixed${name}(vec3 place) {
  vec3 inside = clamp(place, vec3(0.0), vec3(uThinSize - 1));
  ivec3 low = ivec3(floor(inside + TOLERANCE));
  vec3 share = clamp(inside - vec3(low), 0.0, 1.0);
  ivec3 high = min(low + 1, uThinSize - 1);
  ${keepsSteps ? 'low.z = int(floor(inside.z + 0.5));' : ''}
  return ${value};
}`;
}

/** One mode at a place, or over a slab around it: places outside the volume do not count. */
function combined(mode: SimpleMode, variant: Variant): string {
  const name = capital(mode);
  if (!variant.isSlab) return `float at${name}(vec3 place) { return mixed${name}(place); }`;
  return `
float at${name}(vec3 place) {
  float total = 0.0, most = MISSING, count = 0.0;
  bool isMissing = false;
  for (int step = 0; step < uSlabSteps; step++) {
    vec3 there = place + float(step - (uSlabSteps - 1) / 2) * uSlabStep;
    float value = mixed${name}(there);
    if (!isOutside(there)) {
      isMissing = isMissing || value <= MISSING;
      total += value;
      most = max(most, value);
      count += 1.0;
    }
  }
  return isMissing || count == 0.0 ? MISSING : uSlabMaximum ? most : total / count;
}`;
}

const DIFFERENCE = `
float atDifference(vec3 place) {
  float thin = atThin(place), cubic = atCubic(place);
  return thin <= MISSING || cubic <= MISSING ? MISSING : thin - cubic;
}`;

/** Shares of a scale between which an overlay becomes visible: below them the picture stays as it is. */
const OVERLAY_RANGE = ['0.1', '0.7'] as const;

const scaleColour = (mode: 'difference' | 'deviation'): string =>
  mode === 'deviation'
    ? 'scaleColour(clamp(VALUE / uMost.x, 0.0, 1.0), 0.25)'
    : 'scaleColour(clamp(0.5 + 0.5 * VALUE / uMost.y, 0.0, 1.0), 0.75)';

function main(variant: Variant): string {
  const { mode, overlay } = variant;
  const isScale = mode === 'difference' || mode === 'deviation';
  const shown = isScale
    ? scaleColour(mode).replace('VALUE', 'value')
    : 'vec3(clamp((value - uWindow.x) / uWindow.y, 0.0, 1.0))';
  const laid =
    overlay === null || isScale
      ? ''
      : `
  float over = at${capital(overlay)}(place);
  float size = abs(over) / uMost.${overlay === 'deviation' ? 'x' : 'y'};
  float weight = over <= MISSING ? 0.0 : uOpacity * smoothstep(${OVERLAY_RANGE[0]}, ${OVERLAY_RANGE[1]}, size);
  shown = mix(shown, ${scaleColour(overlay).replace('VALUE', 'over')}, weight);`;
  const written = variant.encodes
    ? `
  // 24 bits: 1/256 HU from -32768 on; alpha 0 stands for no value.
  int code = int(round((value + 32768.0) * 256.0));
  vec4 bytes = vec4(float(code & 255), float((code >> 8) & 255), float((code >> 16) & 255), 255.0) / 255.0;
  colour = outside || value <= MISSING ? vec4(0.0) : bytes;`
    : `
  vec3 shown = ${shown};${laid}
  float stripe = mod(gl_FragCoord.x + gl_FragCoord.y, 16.0) < 8.0 ? 0.09 : 0.13;
  shown = value <= MISSING ? vec3(stripe, stripe, stripe * 1.25) : shown;
  colour = vec4(outside ? vec3(0.0) : shown, 1.0);`;
  return `
vec3 scaleColour(float share, float row) {
  return texture(uColours, vec2((share * 255.0 + 0.5) / 256.0, row)).rgb;
}

void main() {
  vec2 pixel = gl_FragCoord.xy - uPane - 0.5;
  vec3 place = uOrigin + uAcross * pixel.x + uUp * pixel.y;
  bool outside = isOutside(place);
  float value = at${capital(mode)}(place);${written}
}`;
}
