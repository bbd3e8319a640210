/** Version of this program, put in place when the page is built. */
declare const __LAMINATE_VERSION__: string
