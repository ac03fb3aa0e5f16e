/** Networks in ONNX, run by onnxruntime-web on the CPU. */

import * as ort from 'onnxruntime-web/wasm';
import type { Infer, Made, Pass } from '../core/network';
import type { Runtime } from './messages';

/** A network, ready to run. */
export async function openNetwork(network: ArrayBuffer, runtime: Runtime): Promise<Infer> {
  ort.env.logLevel = 'error';
  if ('binary' in runtime) {
    ort.env.wasm.wasmBinary = runtime.binary;
    ort.env.wasm.numThreads = 1;
  } else {
    ort.env.wasm.wasmPaths = runtime.folder;
    ort.env.wasm.numThreads = runtime.threads;
  }
  const session = await ort.InferenceSession.create(network, {
    executionProviders: ['wasm'],
    graphOptimizationLevel: 'all',
    // Windows of one run have few shapes; memory for all of them at once would be the sum.
    enableMemPattern: false,
    enableCpuMemArena: false,
  });
  return async ({ thick, shape, description }: Pass): Promise<Made> => {
    const { condition, positions, profile, damping } = description;
    const { thin, deviation } = await session.run({
      thick: new ort.Tensor('float32', thick, [1, 1, ...shape]),
      condition: new ort.Tensor('float32', condition, [condition.length]),
      positions: new ort.Tensor('float32', positions, [positions.length / 6, 6]),
      profile: new ort.Tensor('float64', profile, [profile.length]),
      damping: new ort.Tensor('float64', Float64Array.of(damping), []),
    });
    return { thin: taken(thin), deviation: session.outputNames.includes('deviation') ? taken(deviation) : null };
  };
}

/** The values of an output, whose own memory is freed. */
function taken(output: ort.Tensor): Float32Array<ArrayBuffer> {
  const values = output.data as Float32Array<ArrayBuffer>;
  output.dispose();
  return values;
}
