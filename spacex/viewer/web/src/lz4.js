// In place of numcodecs' lz4, which no cube uses.
export default class Lz4 {
  static fromConfig() { throw new Error('lz4 is not part of this page'); }
}
