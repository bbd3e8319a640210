/**
 * What may import what in the page. The layers, from the ground: `words` and `engine`, then `ui`, `charts` and `figures`, then
 * `app` (what all features share) and the features, each a folder. `app` puts the features together and may import any file of theirs, as
 * `package` does for other people's pages; one feature imports another only through its `index.ts`.
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
      name: 'package-has-no-screen',
      comment:
        'The npm package puts parts of the page together for other pages; nothing of it is a view or knows the state.',
      severity: 'error',
      from: { path: '^package/' },
      to: { path: '[.]svelte([.]ts)?$', reachable: true },
    },
    {
      name: 'page-knows-no-package',
      comment: 'The package is made of the page, and not the other way round.',
      severity: 'error',
      from: { path: '^www/' },
      to: { path: '^package/' },
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
