"""The viewer as a widget of a notebook, by anywidget.

The widget's script is the viewer's own, followed by a few lines that open it in the notebook's cell. Voxels go to the
browser packed as in a page, slab by slab, in the message that opens the widget: notebook servers limit the size
of other output. They do not become part of the notebook's file.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from thinslice.pictures.viewer.bundle import script
from thinslice.pictures.viewer.page import ViewerPage

_OPEN = """
export default {
  async render({ model, el }) {
    const box = document.createElement('div');
    box.style.height = `${model.get('height_px')}px`;
    el.append(box);
    const [, height, width] = model.get('options').thin.shape;
    const unpacked = async (slab) => {
      const stream = new Blob([slab.packed]).stream().pipeThrough(new DecompressionStream('gzip'));
      const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
      return ThinsliceViewer.unpackVoxels(bytes, slab.slices * height * width, height, width);
    };
    let viewer;
    try {
      viewer = ThinsliceViewer.createViewer(box, model.get('options'));
      const fill = async (volumes) => {
        for (const slab of model.get('slabs').filter(({ volume }) => volumes.includes(volume))) {
          viewer.addSlab(slab.volume, slab.first, await unpacked(slab));
        }
      };
      viewer.on('restored', () => void fill(['thin', 'deviation']));
      await fill(['thick', 'thin', 'deviation']);
    } catch (error) {
      if (!(error instanceof ThinsliceViewer.GraphicsError || error instanceof ThinsliceViewer.GridError)) throw error;
      box.setAttribute('role', 'alert');
      box.textContent = error.message;
    }
    return () => viewer?.destroy();
  },
};
"""


def is_installed() -> bool:
    """Whether anywidget is installed; it is not loaded."""
    return importlib.util.find_spec("anywidget") is not None


def module_script() -> str:
    """The widget's script, a module of JavaScript whose default export renders a widget."""
    return script() + _OPEN


def viewer_widget(page: ViewerPage, *, height_px: int) -> Any:
    """A widget that shows a finished page's volumes; a notebook displays it where it is a cell's last value.

    Args:
        page: the volumes.
        height_px: height of the widget in the notebook.
    """
    anywidget, traitlets = importlib.import_module("anywidget"), importlib.import_module("traitlets")
    kind: Any = type(
        "ThinsliceViewer",
        (anywidget.AnyWidget,),
        {
            "_esm": module_script(),
            "options": traitlets.Dict().tag(sync=True),
            "slabs": traitlets.List().tag(sync=True),
            "height_px": traitlets.Int().tag(sync=True),
        },
    )
    slabs = [
        {"volume": slab.volume, "first": slab.first, "slices": slab.shape[0], "packed": slab.packed}
        for slab in page.slabs()
    ]
    return kind(options=page.options(), slabs=slabs, height_px=height_px)
