import { mount } from 'svelte'
import App from './app/App.svelte'
import './app/style.css'
import { ownTask } from './ui/later'
import { applyTheme, storedTheme } from './app/theme'

applyTheme(storedTheme())
// Reading the program is a task already.
void ownTask().then(() => mount(App, { target: document.getElementById('app')! }))
