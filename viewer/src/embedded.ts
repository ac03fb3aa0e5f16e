/**
 * A page that holds its own volumes: one HTML file that opens from a disk, without a request.
 *
 * The page has an element `thinslice-volumes` with JSON (options of the viewer, and the slabs), and one comment for each
 * slab, its name and its voxels: packed, gzip, base64 (`thinslice.pictures.viewer.page` writes them). Browsers read
 * comments in less time than elements.
 */

import { GridError } from './core/geometry';
import { unpackVoxels } from './core/packing';
import { GraphicsError, type VolumeName } from './gl/renderer';
import { make } from './ui/dom';
import { createViewer, type Viewer, type ViewerOptions } from './viewer';

/** A slab in the page: its volume, its first slice, how many there are, and the name of the comment that holds it. */
interface EmbeddedSlab {
  readonly volume: VolumeName;
  readonly first: number;
  readonly slices: number;
  readonly name: string;
}

interface EmbeddedPage {
  readonly options: ViewerOptions;
  readonly slabs: readonly EmbeddedSlab[];
}

/** Open the volumes that the page holds; where that is impossible, a sentence on the page states why. */
export async function openEmbedded(element: HTMLElement): Promise<Viewer | null> {
  try {
    if (!('DecompressionStream' in window)) {
      throw new GraphicsError(
        'This browser cannot open compressed data; use a current Firefox, Chrome, Edge or Safari.',
      );
    }
    const page = JSON.parse(present(document.getElementById('thinslice-volumes')?.textContent)) as EmbeddedPage;
    const viewer = createViewer(element, page.options);
    viewer.focus();
    const fill = async (volumes: readonly VolumeName[]): Promise<void> => {
      const [, height, width] = page.options.thin.shape;
      const comments = slabComments();
      for (const slab of page.slabs.filter(({ volume }) => volumes.includes(volume))) {
        const bytes = await unpacked(present(comments.get(slab.name)));
        viewer.addSlab(slab.volume, slab.first, unpackVoxels(bytes, slab.slices * height * width, height, width));
      }
    };
    viewer.on('restored', () => {
      void fill(['thin', 'deviation']);
    });
    await fill(['thick', 'thin', 'deviation']);
    return viewer;
  } catch (error) {
    if (!(error instanceof GraphicsError || error instanceof GridError)) throw error;
    element.append(make('p', { role: 'alert', class: 'ts-fault' }, error.message));
    return null;
  }
}

/** Voxels in base64 by the names of the slabs; a comment is `NAME:VOXELS`. */
function slabComments(): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const node of document.body.childNodes) {
    if (!(node instanceof Comment)) continue;
    const colon = node.data.indexOf(':');
    found.set(node.data.slice(0, colon), node.data.slice(colon + 1));
  }
  return found;
}

function present(text: string | null | undefined): string {
  if (text == null) throw new GraphicsError('This file is damaged: a part of it is missing. Copy it again.');
  return text;
}

async function unpacked(base64: string): Promise<Uint8Array> {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Bytes of base64; browsers that are not of the newest lack the short way. */
function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  const { fromBase64 } = Uint8Array as unknown as { fromBase64?: (text: string) => Uint8Array<ArrayBuffer> };
  if (fromBase64 !== undefined) return fromBase64.call(Uint8Array, base64);
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
