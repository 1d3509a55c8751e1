// One static page for one cube: everything it shows is read from the store itself.
import OlMap from 'ol/Map.js';
import ScaleLine from 'ol/control/ScaleLine.js';
import View from 'ol/View.js';
import proj4 from 'proj4';
import {defaults} from 'ol/control/defaults.js';
import {get as getProjection, transform} from 'ol/proj.js';
import {register} from 'ol/proj/proj4.js';
import {Cube, STATES} from './cube.js';
import {STATE_COLOURS, hatchLayer, mapLayer, pictureLayer, scaleOf, sitesLayer, tilesLayer} from './layers.js';

const $ = (id) => document.getElementById(id);

/** Three digits, as short as they go. */
function number(value) {
  if (!Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  return size > 0 && size < 1e-3 ? value.toExponential(2).replace(/\.?0*e/, 'e') : String(Number(value.toPrecision(3)));
}

const words = (name) => name.replaceAll('_', ' ');

/** Where a link leads to: what stands after the # of the page's address. */
const asked = new URLSearchParams(location.hash.slice(1));

/** The cube's CRS, made known to OpenLayers; proj4 reads its WKT, so any CRS of a cube will do. */
function projectionOf({attributes, arrays}) {
  const code = attributes['proj:code'] ?? 'cube';
  // a root with a code has no text beside it, since the convention allows one of the two; older cubes have both
  proj4.defs(code, attributes['proj:wkt2'] ?? arrays['0/spatial_ref'].attributes.crs_wkt);
  register(proj4);
  const projection = getProjection(code);
  const [left, bottom, right, top] = attributes['spatial:bbox'];
  projection.setExtent([left - 2e6, bottom - 2e6, right + 2e6, top + 2e6]);
  return projection;
}

async function start() {
  const url = new URL(document.querySelector('meta[name=cube]').content, location.href).href.replace(/\/$/, '');
  const cube = await Cube.open(url);
  const projection = projectionOf(cube);
  const box = cube.bbox;
  // no further out than four pixels of the coarsest level: while a run goes on there is no level for a whole country
  const coarsest = cube.layout.at(-1)['spatial:transform'][0];
  const view = new View({
    projection, center: [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], resolution: coarsest, minResolution: 1, maxResolution: 4 * coarsest,
  });
  const map = new OlMap({target: 'map', view, layers: [], controls: defaults({rotate: false}).extend([new ScaleLine()])});
  const room = innerWidth > 640 ? [20, 312, 20, 20] : [10, 10, innerHeight * 0.45, 10];
  if (asked.has('x')) {
    view.setCenter([Number(asked.get('x')), Number(asked.get('y'))]);
    view.setResolution(Number(asked.get('resolution')));
  } else view.fit(box, {padding: room});

  const shown = {time: Number(asked.get('time') ?? 0), layer: null, picture: null};
  // what quicklook and reports use as well: the composite's stretch, and the least ends of the maps' colour scales
  const {white, gamma, floors} = JSON.parse(document.querySelector('meta[name=display]').content);
  const tiles = tilesLayer(cube);
  tiles.setZIndex(4);
  map.addLayer(tiles);
  tell(cube);
  const table = document.querySelector('meta[name=sites]').content;
  const sites = table ? sitesLayer(await (await fetch(table)).json(), shown.time) : null;
  if (sites) {
    sites.setZIndex(5);
    map.addLayer(sites);
    $('sitesbox').hidden = false;
    $('sites').addEventListener('change', () => sites.setVisible($('sites').checked));
  }

  /** The numbers of the smallest site at a place of the screen: it may lie within a larger one. */
  function told(pixel) {
    const found = [];
    map.forEachFeatureAtPixel(pixel, (feature) => { found.push(feature); }, {layerFilter: (layer) => layer === sites});
    const [site] = found.sort((a, b) => a.getGeometry().getArea() - b.getGeometry().getArea());
    $('site').hidden = !site;
    if (!site) return;
    $('sitename').textContent = site.get('name');
    list($('sitefacts'), site.get('steps')[shown.time] ?? {state: 'no row of this time step'});
    $('site').open = true;
  }

  function picture() {
    if (shown.picture || !$('picture').checked) return shown.picture?.setVisible($('picture').checked);
    shown.picture = pictureLayer(cube, shown.time, white, gamma);
    shown.picture.setZIndex(1);
    return map.addLayer(shown.picture);
  }

  function hatch() {
    if (!shown.hatch && cube.spec.dissimilarity) {
      shown.hatch = hatchLayer(cube, shown.time);
      shown.hatch.setZIndex(6); // above the sites
      map.addLayer(shown.hatch);
    }
    shown.hatch?.setVisible(Boolean(shown.layer) && $('hatch').checked);
  }

  function range(low, high) {
    const {scale, offset} = cube.packing(shown.layer.get('name'));
    [$('low').value, $('high').value] = [number(low), number(high)];
    shown.layer.updateStyleVariables({low: (low - offset) / scale, high: (high - offset) / scale, clear: $('clear').checked ? 1 : 0});
  }

  async function reset() {
    const name = shown.layer.get('name');
    if (name === 'naturalness') return range(0, 1);
    if (name === 'dissimilarity') return range(0, 2); // 1 is the threshold
    const [high] = await cube.percentiles(name, shown.time, [0.99]);
    const top = Math.max(Number.isFinite(high) ? high : 0, floors[name] ?? 0);
    return range(0, top > 0 ? Number(top.toPrecision(2)) : 1);
  }

  async function show(name) {
    if (shown.layer) map.removeLayer(shown.layer);
    shown.layer = null;
    $('scale').hidden = name === 'composite';
    if (name === 'composite') {
      hatch();
      $('picture').checked = true;
      return picture();
    }
    const about = cube.about(name).attributes;
    shown.layer = mapLayer(cube, name, shown.time);
    shown.layer.setZIndex(2);
    shown.layer.setOpacity(Number($('opacity').value));
    $('comment').textContent = about.comment ?? '';
    $('quantity').textContent = about.quantity ?? '';
    $('clear').checked = asked.get('clear') ? asked.get('clear') === '1' : !['naturalness', 'dissimilarity'].includes(name);
    legend(scaleOf(name));
    await (asked.has('high') ? range(Number(asked.get('low')), Number(asked.get('high'))) : reset());
    map.addLayer(shown.layer);
    return hatch();
  }

  async function states() {
    tiles.setVisible($('tiles').checked);
    $('states').hidden = !$('tiles').checked;
    if (!$('tiles').checked) return;
    const found = await cube.states(shown.time);
    if (found) tiles.show(found);
    $('states').replaceChildren(...(found ? STATES.flatMap((state, i) => {
      const count = found.filter((value) => Number(value) === i).length;
      const swatch = document.createElement('i');
      swatch.style.background = STATE_COLOURS[i];
      return count ? [swatch, `${state}: ${count}`] : [];
    }).map((part) => (typeof part === 'string' ? Object.assign(document.createElement('span'), {textContent: part}) : part))
      : [Object.assign(document.createElement('span'), {textContent: 'The run goes on; its end will tell.'})]));
  }

  async function made(coordinate) {
    const tile = cube.tileAt(coordinate);
    $('made').hidden = !tile;
    if (!tile) return;
    const {row, col} = tile;
    const state = await cube.read('tiles/status', [shown.time, row, col]);
    $('tile').textContent = `Tile ${cube.tileName(row, col)}: ${STATES[Number(state)]}`;
    const found = await cube.provenance(shown.time, row, col);
    list($('provenance'), found ?? {provenance: 'none recorded'});
    $('made').open = true;
  }

  function pointed({pixel, coordinate, dragging}) {
    if (dragging) return;
    const [lon, lat] = transform(coordinate, projection, 'EPSG:4326');
    const lines = [
      `${Math.abs(lat).toFixed(4)}° ${lat < 0 ? 'S' : 'N'}, ${Math.abs(lon).toFixed(4)}° ${lon < 0 ? 'W' : 'E'}`,
      `x ${Math.round(coordinate[0])}, y ${Math.round(coordinate[1])} m`,
    ];
    for (const layer of [shown.layer, shown.picture]) {
      if (!layer?.getVisible()) continue;
      const name = layer.get('name');
      const {scale, offset} = cube.packing(name);
      const data = layer.getData(pixel);
      const values = data && data.at(-1) !== 0 ? [...data].slice(0, -1).map((value) => number(value * scale + offset)) : ['no data'];
      lines.push(`${name === 'composite' ? 'reflectance' : words(name)} ${values.join(' ')}`);
    }
    $('value').textContent = lines.join('\n');
  }

  /** The address always leads back to what is seen. */
  function remember() {
    const [x, y] = view.getCenter().map(Math.round);
    const state = {
      layer: shown.layer?.get('name') ?? 'composite', time: shown.time, x, y, resolution: Number(view.getResolution().toFixed(2)),
      picture: $('picture').checked ? 1 : 0, opacity: $('opacity').value,
      ...(shown.layer ? {low: $('low').value, high: $('high').value, clear: $('clear').checked ? 1 : 0} : {}),
    };
    history.replaceState(null, '', `#${new URLSearchParams(state)}`);
  }

  function northwards() {
    const centre = view.getCenter();
    const [lon, lat] = transform(centre, projection, 'EPSG:4326');
    const [x, y] = transform([lon, lat + 0.01], 'EPSG:4326', projection);
    $('north').style.transform = `rotate(${Math.atan2(x - centre[0], y - centre[1])}rad)`;
  }

  for (const name of [...cube.maps, 'composite']) {
    const {long_name: label = words(name)} = cube.about(name).attributes;
    const choice = Object.assign(document.createElement('input'), {type: 'radio', name: 'layer', value: name});
    const row = document.createElement('label');
    row.append(choice, ` ${name === 'composite' ? 'composite only' : label}`);
    $('layers').append(row);
  }
  $('opacity').value = asked.get('opacity') ?? 0.85;
  $('layers').addEventListener('change', ({target}) => show(target.value).then(remember));
  $('opacity').addEventListener('input', () => shown.layer?.setOpacity(Number($('opacity').value)));
  $('opacity').addEventListener('change', remember);
  for (const id of ['low', 'high', 'clear']) {
    $(id).addEventListener('change', () => {
      if (!shown.layer) return undefined;
      const [low, high] = [Number($('low').value), Number($('high').value)];
      return Promise.resolve(high > low ? range(low, high) : reset()).then(remember);
    });
  }
  $('reset').addEventListener('click', () => reset().then(remember));
  $('picture').addEventListener('change', () => { picture(); remember(); });
  $('hatchbox').hidden = !cube.spec.dissimilarity;
  $('hatch').addEventListener('change', hatch);
  $('tiles').addEventListener('change', states);
  $('time').addEventListener('change', () => {
    shown.time = Number($('time').value);
    for (const layer of [shown.layer, shown.picture, shown.hatch]) layer?.getSource().updateDimensions({time: shown.time});
    sites?.at(shown.time);
    $('site').hidden = true;
    remember();
    return states();
  });
  map.on('pointermove', pointed);
  map.on('singleclick', ({coordinate, pixel}) => { told(pixel); made(coordinate); });
  map.on('moveend', () => { northwards(); remember(); });

  $('time').value = shown.time;
  $('picture').checked = asked.get('picture') !== '0';
  const first = asked.get('layer') ?? cube.maps.at(-2) ?? cube.maps[0];
  document.querySelector(`input[value="${first}"]`).checked = true;
  await Promise.all([picture(), show(first)]);
  for (const name of ['low', 'high', 'clear']) asked.delete(name); // they were meant for the first layer
  window.spacex = {map, cube, show, sites, told, time: () => shown.time};
}

function tell(cube) {
  const {attributes, spec, card} = cube;
  document.title = attributes.title ?? 'SpacEX map';
  $('title').textContent = attributes.title ?? cube.url.split('/').at(-1);
  $('subtitle').textContent = [`${spec.intervals.flat().sort()[0]} to ${spec.intervals.flat().sort().at(-1)}`, attributes['proj:code'], `${spec.resolution} m`,
    `fingerprint ${attributes.fingerprint}`].filter(Boolean).join(' · ');
  $('timebox').hidden = spec.intervals.length < 2;
  $('time').replaceChildren(...spec.intervals.map(([first, last], i) => new Option(`${first} to ${last}`, i)));
  $('credit').textContent = [attributes.source, `licence: ${attributes.license ?? 'not stated'}`, attributes.institution]
    .filter(Boolean).map((sentence) => `${sentence[0].toUpperCase()}${sentence.slice(1)}.`).join(' ');
  const {preset, bands, data, created, code_version: version, intended_use: use, limits, meaning} = card;
  const certificate = card.certificate?.checks.map((check) => `${check.name} ${check.value.toFixed(3)}`).join(", ");
  list($('card'), {meaning, preset, bands, trained_on: data?.name, created, version, use, limits, certificate});
}

function list(place, facts) {
  place.replaceChildren(...Object.entries(facts).filter(([, value]) => value !== undefined && value !== null).flatMap(([name, value]) => [
    Object.assign(document.createElement('dt'), {textContent: words(name)}),
    Object.assign(document.createElement('dd'), {textContent: said(value)})]));
}

function said(value) {
  if (Array.isArray(value)) return value.map(said).join(value.some((item) => typeof item === 'object') ? '; ' : ', ');
  if (value && typeof value === 'object') return Object.entries(value).map(([name, item]) => `${words(name)} ${said(item)}`).join(', ');
  return typeof value === 'number' ? number(value) : String(value);
}

function legend(colours) {
  const pen = $('legend').getContext('2d');
  const gradient = pen.createLinearGradient(0, 0, 256, 0);
  colours.forEach((colour, i) => gradient.addColorStop(i / (colours.length - 1), colour));
  pen.fillStyle = gradient;
  pen.fillRect(0, 0, 256, 14);
}

start().catch((error) => {
  $('error').hidden = false;
  $('error').textContent = error.message;
});
