/**
 * What may import what in the page. The layers, from the ground: `words` and `engine`, then `ui`, `charts` and `figures`, then
 * `app` (what all features share) and the features, each a folder. `app` puts the features together and may import any file of theirs; one
 * feature imports another only through its `index.ts`.
 */
const ground = '^www/(words|engine|ui|charts|figures)/'

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: [
    {
      name: 'no-circle',
      comment: 'Files that import each other cannot be read, tested or moved one by one.',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'feature-through-its-index',
      comment: 'What a feature shows to others is in its index.ts; import it from there.',
      severity: 'error',
      from: { path: '^www/([^/]+)/', pathNot: [ground, '^www/app/'] },
      to: { path: '^www/[^/]+/', pathNot: [ground, '^www/app/', '^www/$1/', '^www/[^/]+/index[.]ts$'] },
    },
    {
      name: 'ground-knows-no-feature',
      comment: 'The ground is used by every feature, and knows none.',
      severity: 'error',
      from: { path: ground },
      to: { path: '^www/', pathNot: [ground] },
    },
    {
      name: 'resolvable',
      comment: 'What cannot be found cannot be checked.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true, path: '^[.]', pathNot: '^[.]/pkg/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: 'www/engine/pkg/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { extensions: ['.ts', '.svelte', '.js', '.json'] },
  },
}
