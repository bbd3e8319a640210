// @ts-check
/** What the lock files say. Pure: text in, facts out. */

/** The version of a crate in the text of a `Cargo.lock`. @param {string} text @param {string} name */
export function lockedCrate(text, name) {
  const versions = [...text.matchAll(/^\[\[package\]\]\r?\nname = "([^"]+)"\r?\nversion = "([^"]+)"/gm)]
    .filter(match => match[1] === name)
    .map(match => match[2] ?? '')
  if (versions.length !== 1) {
    throw new Error(
      versions.length === 0
        ? `Cargo.lock does not name ${name}.`
        : `Cargo.lock names ${name} in versions ${versions.join(' and ')}.`,
    )
  }
  return versions[0] ?? ''
}

/** @typedef {{ packages?: Record<string, { version?: string, optional?: boolean, link?: boolean }> }} NpmLock */

/**
 * The packages that `package-lock.json` asks for and `node_modules` (by npm's own record of it) has not, or
 * has in another version. Optional ones may be meant for another system. @param {NpmLock} wanted @param {NpmLock} installed
 */
export function missingPackages(wanted, installed) {
  return Object.entries(wanted.packages ?? {})
    .filter(([path, { version, optional }]) => {
      const found = installed.packages?.[path]
      return path !== '' && !(found ? found.version === version : optional)
    })
    .map(([path]) => path.replace(/^.*node_modules\//, ''))
}

/** Whether version `a` is at least `b`; missing parts count as 0. @param {string} a @param {string} b */
export function atLeast(a, b) {
  const [x, y] = [a, b].map(version => version.split(/[.-]/).map(Number))
  for (let i = 0; i < 3; i++) {
    const difference = (x?.[i] || 0) - (y?.[i] || 0)
    if (difference !== 0) return difference > 0
  }
  return true
}
