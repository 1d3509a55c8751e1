// What a cube says of itself, from the one zarr.json that holds all its metadata, and small reads from it.
import {FetchStore, get, open, root} from 'zarrita';

export const STATES = ['pending', 'done', 'no data', 'outside', 'failed'];
const MOST = 400; // tiles whose states are asked for one by one while a run goes on

export class Cube {
  static async open(url) {
    const answer = await fetch(`${url}/zarr.json`);
    if (!answer.ok) throw new Error(`No cube at ${url} (${answer.status}).`);
    return new Cube(url, await answer.json());
  }

  constructor(url, document) {
    this.url = url;
    this.attributes = document.attributes;
    this.arrays = document.consolidated_metadata?.metadata ?? {};
    const format = this.attributes.spacex_format;
    if (format !== 2 && format !== 3) {
      throw new Error(`This page draws cubes of formats 2 and 3, and this one has format ${format}.`);
    }
    this.spec = JSON.parse(this.attributes.spacex_spec);
    const {extent: [row, col, height, width], resolution, tile_size: side} = this.spec;
    /** [left, bottom, right, top] of the pixels asked for; from format 3 on the arrays cover whole tiles around them. */
    this.bbox = [col, -(row + height), col + width, -row].map((pixels) => pixels * resolution);
    // row and column of the first tile on the global tile lattice; before format 3 tiles had no place on it
    this.firstTile = format === 3 ? [Math.floor(row / side), Math.floor(col / side)] : null;
    this.card = JSON.parse(this.attributes.checkpoint ?? '{}');
    this.layout = this.attributes.multiscales.layout;
    const metadata = new Map(Object.entries(this.arrays).map(
      ([path, value]) => [`/${path}/zarr.json`, new TextEncoder().encode(JSON.stringify(value))]));
    const remote = new FetchStore(url);
    this.store = root({get: (key, options) => metadata.get(key) ?? remote.get(key, options)});
  }

  /** Names of what can be shown: every map of full resolution, in the cube's order, the scores of whole chips last. */
  get maps() {
    return [...Object.keys(this.spec.maps), 'naturalness', ...(this.spec.dissimilarity ? ['dissimilarity'] : [])];
  }

  /** The levels that hold a variable, finest first. While a run goes on the composite may be in an unnamed one. */
  levels(name) {
    const named = this.layout.filter(({asset}) => this.arrays[`${asset}/${name}`]);
    if (named.length) return named;
    const asset = Object.keys(this.arrays).filter((path) => path.endsWith(`/${name}`)).sort()[0].split('/')[0];
    const about = this.arrays[asset].attributes;
    return [{asset, 'spatial:shape': about['spatial:shape'], 'spatial:transform': about['spatial:transform']}];
  }

  /** Metadata of a variable at its finest level. */
  about(name) {
    return this.arrays[`${this.levels(name)[0].asset}/${name}`];
  }

  packing(name) {
    const {scale_factor: scale = 1, add_offset: offset = 0} = this.about(name).attributes;
    return {scale, offset};
  }

  async read(path, selection) {
    return get(await open.v3(this.store.resolve(path), {kind: 'array'}), selection);
  }

  /** Percentiles of a variable, unpacked, over its coarsest level: a chunk or a few. */
  async percentiles(name, time, shares) {
    const {asset} = this.levels(name).at(-1);
    const {shape, fill_value: fill} = this.arrays[`${asset}/${name}`];
    const {data} = await this.read(`${asset}/${name}`, [time, ...shape.slice(1).map(() => null)]);
    const seen = Float32Array.from(data).filter((value) => Number.isFinite(value) && value !== fill).sort();
    const {scale, offset} = this.packing(name);
    return shares.map((share) => seen.length ? seen[Math.floor((seen.length - 1) * share)] * scale + offset : NaN);
  }

  /** Whether each pixel of a window of full resolution has a score, as a function of its row and column in it. */
  async coverage(time, row, col, height, width) {
    const {shape: [, rows, cols], fill_value: fill} = this.arrays['0/naturalness'];
    const {data, shape: [, across]} = await this.read('0/naturalness', [time, ...[[row, height, rows], [col, width, cols]].map(
      ([start, length, end]) => ({start, stop: Math.min(start + length, end), step: null}))]);
    return (down, right) => (right < across ? data[down * across + right] ?? fill : fill) !== fill;
  }

  /** States of all tiles at a time step, row by row; null where only the end of the run will tell. */
  async states(time) {
    const finished = Boolean(this.attributes.overviews_of);
    const [, rows, cols] = this.arrays['tiles/status'].shape;
    if (!finished && rows * cols > MOST) return null;
    const {data} = await this.read(finished ? 'tiles/status_at_end' : 'tiles/status', [time, null, null]);
    return data;
  }

  /** How a tile was made, or null. */
  async provenance(time, row, col) {
    const {data} = await this.read('tiles/provenance', [[time, time + 1], [row, row + 1], [col, col + 1]].map(
      ([start, stop]) => ({start, stop, step: null})));
    const text = data.get ? data.get(0) : data[0];
    return text ? JSON.parse(text) : null;
  }

  /** [left, bottom, right, top] of a tile in the cube's CRS. */
  box(row, col) {
    const [size, , left, , , top] = this.attributes['spatial:transform'];
    const [height, width] = this.attributes['spatial:shape'];
    const side = this.spec.tile_size;
    const [bottom, right] = [Math.min(height, (row + 1) * side), Math.min(width, (col + 1) * side)];
    return [left + col * side * size, top - bottom * size, left + right * size, top - row * side * size];
  }

  /** The tile's name in reports and logs, without the time step; row and col are those of the arrays over tiles. */
  tileName(row, col) {
    if (!this.firstTile) return `${row}, ${col}`;
    const [down, right] = [this.firstTile[0] + row, this.firstTile[1] + col];
    return `${down < 0 ? 'n' : 's'}${Math.abs(down)}-${right < 0 ? 'w' : 'e'}${Math.abs(right)}`;
  }

  /** {row, col} of the tile at a place, or null. */
  tileAt([x, y]) {
    const [size, , left, , , top] = this.attributes['spatial:transform'];
    const side = this.spec.tile_size * size;
    const [row, col] = [Math.floor((top - y) / side), Math.floor((x - left) / side)];
    const [, rows, cols] = this.arrays['tiles/status'].shape;
    return row >= 0 && col >= 0 && row < rows && col < cols ? {row, col} : null;
  }
}
