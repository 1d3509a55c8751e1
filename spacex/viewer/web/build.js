// One command for everything the page needs: `npm ci && npm run build` bundles src/ into ../page, with the licences
// of every package that ends up in it, and a digest of the sources so that a test sees a bundle that is out of date.
import {createHash} from 'node:crypto';
import {readFileSync, readdirSync, rmSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import esbuild from 'esbuild';

const OUT = '../page';

rmSync(OUT, {recursive: true, force: true});
const {metafile} = await esbuild.build({
  entryPoints: ['src/app.js', 'src/app.css'],
  alias: {'numcodecs/zstd': './src/zstd.js', 'numcodecs/lz4': './src/lz4.js'},
  bundle: true, splitting: true, minify: true, metafile: true, format: 'esm', target: 'es2022',
  legalComments: 'none', outdir: OUT, chunkNames: '[name]',
});
writeFileSync(`${OUT}/index.html`, readFileSync('src/index.html'));

// only what is really in the bundle: inputs that gave at least one byte
const used = new Set();
for (const {inputs} of Object.values(metafile.outputs)) {
  for (const [path, {bytesInOutput}] of Object.entries(inputs)) {
    const found = path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)\//);
    if (found && bytesInOutput > 0) used.add(found[1]);
  }
}
const licences = [...used].sort().map((name) => {
  const folder = join('node_modules', name);
  const {version, license} = JSON.parse(readFileSync(join(folder, 'package.json')));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  if (!file) throw new Error(`${name} brings no licence file`);
  return `${name} ${version} (${license})\n${'='.repeat(72)}\n${readFileSync(join(folder, file), 'utf8').trim()}\n`;
});
writeFileSync(`${OUT}/LICENSES.txt`, [...licences, readFileSync('c-blosc-licences.txt', 'utf8')].join('\n\n'));

const digest = createHash('sha256');
for (const name of ['build.js', 'package-lock.json', ...readdirSync('src').sort().map((file) => `src/${file}`)]) {
  digest.update(name).update(readFileSync(name));
}
writeFileSync(`${OUT}/sources.sha256`, `${digest.digest('hex')}\n`);
for (const file of readdirSync(OUT)) console.log(file, readFileSync(`${OUT}/${file}`).length);
