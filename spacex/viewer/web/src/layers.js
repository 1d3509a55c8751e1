// OpenLayers layers over a cube: maps through a colour scale, the composite, and the tiles' outlines.
import Feature from 'ol/Feature.js';
import Fill from 'ol/style/Fill.js';
import GeoZarr from 'ol/source/GeoZarr.js';
import Stroke from 'ol/style/Stroke.js';
import Style from 'ol/style/Style.js';
import TileLayer from 'ol/layer/WebGLTile.js';
import VectorLayer from 'ol/layer/Vector.js';
import VectorSource from 'ol/source/Vector.js';
import {fromExtent} from 'ol/geom/Polygon.js';

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

/** The picture itself, stretched between two raw values. */
export function pictureLayer(cube, time, low, high) {
  const bands = cube.about('composite').shape[1];
  const shown = bands >= 3 ? [0, 1, 2] : [0];
  const at = (band) => ['clamp', ['/', ['-', ['band', Math.min(band, shown.length)], low], high - low], 0, 1];
  const layer = new TileLayer({
    source: new CubeSource(cube, 'composite', {time, band: shown}),
    style: {color: ['array', at(1), at(2), at(3), ['case', ['==', ['band', shown.length + 1], 0], 0, 1]], gamma: 1.1},
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
