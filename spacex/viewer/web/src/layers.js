// OpenLayers layers over a cube: maps through a colour scale, the composite, and the tiles' outlines.
import Feature from 'ol/Feature.js';
import Fill from 'ol/style/Fill.js';
import GeoJSON from 'ol/format/GeoJSON.js';
import GeoZarr from 'ol/source/GeoZarr.js';
import Stroke from 'ol/style/Stroke.js';
import Style from 'ol/style/Style.js';
import TileLayer from 'ol/layer/WebGLTile.js';
import VectorLayer from 'ol/layer/Vector.js';
import VectorSource from 'ol/source/Vector.js';
import {fromExtent} from 'ol/geom/Polygon.js';
import {toSize} from 'ol/size.js';

/** matplotlib's inferno, cividis and viridis at 0, 0.2, … 1. */
const HEAT = ['#000004', '#420a68', '#932667', '#dd513a', '#fca50a', '#fcffa4'];
const SCORE = ['#00224e', '#35456c', '#666970', '#948e77', '#c8b866', '#fee838'];
const UNLIKE = ['#440154', '#414487', '#2a788e', '#22a884', '#7ad151', '#fde725'];
export const scaleOf = (name) => ({naturalness: SCORE, dissimilarity: UNLIKE}[name] ?? HEAT);

export const STATE_COLOURS = ['#ffffff', '#2a9d4a', '#9ecae1', '#e8e8e8', '#d62728'];

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/**
 * OpenLayers takes a level's resolution from the extent and the level's shape, which is off where a side is odd.
 * Told in the other form it knows, it uses the exact transforms that the cube gives.
 */
class CubeSource extends GeoZarr {
  constructor(cube, variable, dimensions) {
    super({url: cube.url, variable, dimensions, transition: 0, projection: cube.attributes['proj:code'] ?? 'cube'});
    this.cube = cube;
  }

  configureLevels_(attributes, store) {
    const datasets = this.cube.levels(this.variable_).map(({asset, ...where}) => ({path: asset, ...where}));
    return super.configureLevels_({...attributes, multiscales: [{datasets}]}, store);
  }
}

/**
 * The composite begins at half the maps' resolution, and its pixels at a border reach beyond those of the maps. At its
 * finest level it therefore leaves out pixels of which the maps lack a part.
 */
class PictureSource extends CubeSource {
  async loadTile_(z, x, y, options) {
    const values = await super.loadTile_(z, x, y, options);
    const grid = this.tileGrid;
    if (z < grid.getMaxZoom() || this.cube.levels(this.variable_)[0].asset !== '1') return values;
    const [left, , , top] = grid.getTileCoordExtent([z, x, y]);
    const [origin, size, [width, height]] = [grid.getOrigin(z), grid.getResolution(z), toSize(grid.getTileSize(z))];
    const [row, col] = [Math.round((origin[1] - top) / size), Math.round((left - origin[0]) / size)];
    const has = await this.cube.coverage(this.dimensions_.time, 2 * row, 2 * col, 2 * height, 2 * width);
    const bands = values.length / (width * height);
    for (let pixel = 0; pixel < width * height; pixel += 1) {
      const [down, right] = [2 * Math.floor(pixel / width), 2 * (pixel % width)];
      if (!(has(down, right) && has(down, right + 1) && has(down + 1, right) && has(down + 1, right + 1))) {
        values[(pixel + 1) * bands - 1] = 0;
      }
    }
    return values;
  }
}

/** A map's colours between two raw values, `low` and `high`; with `clear` 1 its low values are see-through. */
export function mapLayer(cube, name, time) {
  const [first, ...others] = scaleOf(name).map(channels);
  const share = ['clamp', ['/', ['-', ['band', 1], ['var', 'low']], ['-', ['var', 'high'], ['var', 'low']]], 0, 1];
  const stops = others.flatMap((colour, i) => [(i + 1) / others.length, ['color', ...colour, 1]]);
  const layer = new TileLayer({
    source: new CubeSource(cube, name, {time}),
    style: {
      color: ['case', ['==', ['band', 2], 0], ['color', 0, 0, 0, 0],
        ['interpolate', ['linear'], share, 0, ['color', ...first, ['-', 1, ['var', 'clear']]], ...stops]],
      variables: {low: 0, high: 1, clear: 0},
    },
  });
  layer.set('name', name);
  return layer;
}

/** White where the land is unlike the training chips; the page's style cuts it into stripes. */
export function hatchLayer(cube, time) {
  const {scale, offset} = cube.packing('dissimilarity');
  const outside = ['all', ['!=', ['band', 2], 0], ['>', ['band', 1], (1 - offset) / scale]];
  return new TileLayer({
    className: 'hatch', source: new CubeSource(cube, 'dissimilarity', {time}),
    style: {color: ['case', outside, ['color', 255, 255, 255, 1], ['color', 0, 0, 0, 0]]},
  });
}

/** The picture itself, from 0 to the raw value shown as white. */
export function pictureLayer(cube, time, white, gamma) {
  const {scale, offset} = cube.packing('composite');
  const [low, high] = [-offset / scale, (white - offset) / scale];
  const bands = cube.about('composite').shape[1];
  const shown = bands >= 3 ? [0, 1, 2] : [0];
  const at = (band) => ['clamp', ['/', ['-', ['band', Math.min(band, shown.length)], low], high - low], 0, 1];
  const layer = new TileLayer({
    source: new PictureSource(cube, 'composite', {time, band: shown}),
    style: {color: ['array', at(1), at(2), at(3), ['case', ['==', ['band', shown.length + 1], 0], 0, 1]], gamma},
  });
  layer.set('name', 'composite');
  return layer;
}

/** Outlines of the tiles, filled by state; `show(states)` sets them. */
export function tilesLayer(cube) {
  // a finished tile keeps its colours: it is outlined only
  const styles = STATE_COLOURS.map((colour, state) => new Style({
    stroke: new Stroke({color: state === 1 ? colour : '#222c', width: state === 1 ? 2 : 1}),
    ...(state === 1 ? {} : {fill: new Fill({color: `${colour}99`})})}));
  const layer = new VectorLayer({source: new VectorSource(), style: (feature) => styles[feature.get('state')], visible: false});
  const [, , cols] = cube.arrays['tiles/status'].shape;
  layer.show = (states) => {
    layer.getSource().clear();
    layer.getSource().addFeatures(Array.from(states, (state, i) => new Feature({
      geometry: fromExtent(cube.box(Math.floor(i / cols), i % cols)), state: Number(state)})));
  };
  return layer;
}

/** The colour of a share through the stops of a scale. */
function colourAt(stops, share) {
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const below = Math.min(Math.floor(place), stops.length - 2);
  const [from, to] = [channels(stops[below]), channels(stops[below + 1])];
  return from.map((value, i) => Math.round(value + (place - below) * (to[i] - value)));
}

/** Outlines of sites, filled by their mean naturalness at a time step; grey and dashed where nothing is mapped. */
export function sitesLayer(collection, time) {
  const layer = new VectorLayer({source: new VectorSource({features: new GeoJSON().readFeatures(collection)})});
  layer.at = (step) => layer.setStyle((feature) => {
    const row = feature.get('steps')[step];
    if (!row) return undefined;
    const mean = row.naturalness_mean;
    const fill = mean === null ? '#8884' : `rgba(${colourAt(SCORE, mean).join()},0.75)`;
    return [new Style({stroke: new Stroke({color: '#fff', width: 3})}), new Style({
      fill: new Fill({color: fill}),
      stroke: new Stroke({color: '#111', width: 1.2, ...(mean === null ? {lineDash: [4, 4]} : {})})})];
  });
  layer.at(time);
  return layer;
}
