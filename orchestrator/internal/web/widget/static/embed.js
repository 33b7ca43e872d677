'use strict';

// The widget works without this file, which polls for changes while the widget is visible. It does not hold a stream
// open, because a browser opens six connections to a server, and a page may have more widgets than that.

const pause = 3000;
const longestPause = 30000;

let tag = document.documentElement.dataset.tag;
let delay = pause;
let timer;

function showTimes(page) {
    for (const node of page.querySelectorAll('time')) {
        const time = new Date(node.dateTime);
        if (!isNaN(time)) node.textContent = time.toLocaleString();
    }
}

// Only what has changed is replaced: so a table keeps its scroll position, and a screen reader reads a number out only
// when it has changed.
function show(page) {
    showTimes(page);
    document.title = page.title;
    const ids = root => Array.from(root.querySelectorAll('main [id]'), node => node.id).join();
    if (ids(page) !== ids(document)) {
        document.body.replaceChildren(...page.body.childNodes);
        return;
    }
    for (const id of ['number', 'rows', 'more', 'age', 'problem']) {
        const now = document.getElementById(id);
        const next = page.getElementById(id);
        if (now && next && now.innerHTML !== next.innerHTML) now.replaceChildren(...next.childNodes);
    }
}

async function ask() {
    clearTimeout(timer);
    if (document.hidden) return;
    let hasAnswered = false;
    try {
        const answer = await fetch(location.href, {
            cache: 'no-store',
            headers: tag ? { Accept: 'text/html', 'If-None-Match': tag } : { Accept: 'text/html' },
            signal: AbortSignal.timeout(longestPause),
        });
        // 404 counts as a change too: the owner has made the view private.
        hasAnswered = answer.status < 500;
        if (hasAnswered && answer.status !== 304) {
            show(new DOMParser().parseFromString(await answer.text(), 'text/html'));
            tag = answer.headers.get('ETag');
        }
    } catch {
        hasAnswered = false;
    }
    document.getElementById('silence').hidden = hasAnswered;
    delay = hasAnswered ? pause : Math.min(2 * delay, longestPause);
    clearTimeout(timer);
    timer = setTimeout(ask, delay);
}

showTimes(document);
document.addEventListener('visibilitychange', ask);
timer = setTimeout(ask, pause);
