// The home reads itself again when an event arrives.

import { expectNews } from './live.js';

const latest = document.getElementById('latest');
let source = null;

// A browser opens few connections to one server, so tabs in the background must not hold them all.
function connect() {
    source = new EventSource(`/events/stream?after=${latest.querySelector('[data-id]')?.dataset.id ?? 0}`);
    source.addEventListener('refresh', () => expectNews());
    source.onerror = () => expectNews();
}

if (latest) {
    document.addEventListener('visibilitychange', () => {
        if (document.hidden) source?.close();
        else connect();
    });
    if (!document.hidden) connect();
}
