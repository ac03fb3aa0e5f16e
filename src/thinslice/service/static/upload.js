/** Files that were dropped or chosen, sent one by one, several at a time. */

import { call, patiently } from './api.js';

/** Files that are sent at the same time. */
const AT_ONCE = 4;

/**
 * @param {File[]} files
 * @param {(sent: number, total: number) => void} progress bytes
 * @param {AbortSignal} signal
 * @returns {Promise<any>} the source
 */
export async function upload(files, progress, signal) {
  const wanted = files.filter((file) => !file.name.startsWith('.') && file.size > 0);
  if (wanted.length === 0) throw new Error('There is no file in what was chosen.');
  const total = wanted.reduce((sum, file) => sum + file.size, 0);
  const { id } = await patiently(() => call('POST', '/uploads', { signal }));
  try {
    return await sendAll(id, wanted, total, progress, signal);
  } catch (error) {
    // What was sent would count as an open upload for a day.
    await call('DELETE', `/sources/${id}`).catch(() => {});
    throw error;
  }
}

async function sendAll(id, wanted, total, progress, signal) {
  let next = 0;
  let sent = 0;
  const send = async () => {
    while (next < wanted.length) {
      const number = next++;
      const file = wanted[number];
      // The suffix alone leaves the browser: names of files may be those of patients.
      const suffix = /(\.[A-Za-z0-9]{1,5}){1,2}$/.exec(file.name)?.[0] ?? '';
      await patiently(() =>
        call('PUT', `/uploads/${id}/files/${number}?name=f${encodeURIComponent(suffix)}`, { body: file, signal }),
      );
      sent += file.size;
      progress(sent, total);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, send));
  return patiently(() => call('POST', `/uploads/${id}/complete`, { signal }));
}
