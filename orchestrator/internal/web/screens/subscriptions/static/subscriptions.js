// The pages of subscriptions: they read themselves again when an event arrives, and while deliveries are on their way.

import { expectNews, whenKnown } from './live.js';

const busyAfter = 3000;

const isBusy = () => document.querySelector('[data-busy]') !== null;

if (document.querySelector('[data-live]')) {
    let source = null;
    // A browser opens few connections to one server, so tabs in the background must not hold them all.
    const connect = () => {
        source = new EventSource('/events/stream?after=0');
        source.addEventListener('refresh', () => expectNews());
        source.onerror = () => expectNews();
    };
    document.addEventListener('visibilitychange', () => {
        if (document.hidden) source?.close();
        else connect();
    });
    if (!document.hidden) connect();
    whenKnown(isAway => { if (!isAway && isBusy()) expectNews(busyAfter); });
    if (isBusy()) expectNews(busyAfter);
}

// The field of the URL shows what a URL of the chosen format looks like.
for (const format of document.querySelectorAll('select[name=format]')) {
    const field = format.form.querySelector('[type=url]');
    const own = field.placeholder;
    const show = () => { field.placeholder = format.selectedOptions[0].dataset.example || own; };
    format.addEventListener('change', show);
    show();
}
