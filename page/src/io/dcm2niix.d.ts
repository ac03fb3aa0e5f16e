/** The module that Emscripten made of dcm2niix. */
declare module '@niivue/dcm2niix/module' {
  export interface Dcm2niix {
    callMain(args: readonly string[]): number;
    readonly FS: {
      mkdir(path: string): void;
      createDataFile(folder: string, name: string, data: Uint8Array, canRead: boolean, canWrite: boolean): void;
      readdir(path: string): string[];
      readFile(path: string): Uint8Array<ArrayBuffer>;
      unlink(path: string): void;
    };
  }
  export default function start(options: {
    readonly wasmBinary: ArrayBuffer;
    /** Otherwise the address of a script from a blob would be taken for a folder. */
    readonly locateFile: (name: string) => string;
    readonly print: (line: string) => void;
    readonly printErr: (line: string) => void;
  }): Promise<Dcm2niix>;
}
