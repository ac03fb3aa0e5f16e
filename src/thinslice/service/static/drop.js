/** Files and folders that are dropped on a page or chosen in it; the page that upscales in the browser uses this too. */

/**
 * All files of a drop, folders included.
 *
 * @param {DataTransfer} transfer
 * @returns {Promise<File[]>}
 */
async function droppedFiles(transfer) {
  // Entries must be taken before the first await: the list is emptied afterwards.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry());
  const plain = [...transfer.files];
  /** @type {File[]} */
  const found = [];
  for (const [position, entry] of entries.entries()) {
    if (entry !== null) await walk(entry, found);
    else if (position < plain.length) found.push(plain[position]);
  }
  return found.length > 0 ? found : plain;
}

/**
 * @param {FileSystemEntry} entry
 * @param {File[]} found
 * @returns {Promise<void>}
 */
async function walk(entry, found) {
  if (entry.isFile) {
    const file = /** @type {FileSystemFileEntry} */ (entry);
    found.push(await new Promise((resolve, reject) => file.file(resolve, reject)));
    return;
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  for (;;) {
    /** @type {FileSystemEntry[]} A reader gives a hundred entries at a time. */
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return;
    for (const each of some) await walk(each, found);
  }
}

/**
 * Take files from drops anywhere on the page, and from the buttons `choose-folder` and `choose-files` of the area `drop`.
 *
 * @param {(files: File[]) => unknown} take
 * @param {(error: unknown) => unknown} refuse called where a drop cannot be read
 * @returns {void}
 */
export function connectDrop(take, refuse) {
  const drop = /** @type {HTMLElement} */ (document.getElementById('drop'));
  // The whole page takes a drop: a file beside the area would otherwise replace the page.
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    drop.classList.add('over');
  });
  document.addEventListener('dragleave', (event) => {
    if (event.relatedTarget === null) drop.classList.remove('over');
  });
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    drop.classList.remove('over');
    if (event.dataTransfer !== null) droppedFiles(event.dataTransfer).then(take).catch(refuse);
  });
  for (const kind of ['folder', 'files']) {
    const input = /** @type {HTMLInputElement} */ (document.getElementById(`${kind}-input`));
    document.getElementById(`choose-${kind}`)?.addEventListener('click', () => input.click());
    input.addEventListener('change', () => {
      const files = [...(input.files ?? [])];
      input.value = '';
      if (files.length > 0) take(files);
    });
  }
}
