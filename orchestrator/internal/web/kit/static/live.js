// Parts of a page that change by themselves: those with data-live and an id. The page is read again from time to time,
// and its parts are replaced. When the database is away, the page keeps what it has, and says so.

import { make, showTimes } from './common.js';

// How long an open page waits before it reads again: after an event, without one, and while the database is away.
const newsAfter = 2000;
const newsEvery = 30000;
const newsWhenAway = 5000;

let expected = null;
const listeners = [];

// Calls back with whether the database is away, each time that this is known anew.
export function whenKnown(callback) { listeners.push(callback); }

export function expectNews(delay = newsAfter) {
    expected ??= setTimeout(() => {
        expected = null;
        if (!document.hidden) readNews().catch(() => {}); // the server is away
    }, delay);
}

function showAway(reason) {
    if (!document.getElementById('away')) {
        const box = make('div', { id: 'away', className: 'problem' });
        box.setAttribute('role', 'alert');
        const since = new Date().toISOString().slice(11, 19);
        box.append(make('p', { textContent:
            `The database has not answered since ${since} UTC. This page shows what it read before, and tries again by itself.` }));
        if (reason) box.append(make('p', { textContent: `The reason: ${reason}` }));
        document.querySelector('h1').after(box);
    }
    listeners.forEach(callback => callback(true));
    expectNews(newsWhenAway);
}

// A list keeps its position when it is replaced.
function replace(old, fresh) {
    const places = Array.from(old.querySelectorAll('.scroll'), frame => [frame.scrollLeft, frame.scrollTop]);
    old.replaceWith(document.adoptNode(fresh));
    showTimes(fresh);
    fresh.querySelectorAll('.scroll').forEach((frame, i) => frame.scrollTo(...(places[i] ?? [0, 0])));
}

async function readNews() {
    const answer = await fetch(location.href, { headers: { Accept: 'text/html' } });
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    if (answer.status === 503) {
        showAway(page.querySelector('#away p:nth-of-type(2)')?.textContent.replace(/^The reason: /, ''));
        return;
    }
    document.getElementById('away')?.remove();
    listeners.forEach(callback => callback(false));
    if (!answer.ok) return;
    for (const old of document.querySelectorAll('[data-live]')) {
        const fresh = page.getElementById(old.id);
        if (!fresh) continue;
        showTimes(fresh);
        // A part that is in use is not replaced.
        const isInUse = old.contains(document.activeElement) || old.querySelector('details[open]');
        if (!isInUse && old.innerHTML !== fresh.innerHTML) replace(old, fresh);
    }
}

setInterval(() => expectNews(), newsEvery);
document.addEventListener('visibilitychange', () => { if (!document.hidden) expectNews(); });
