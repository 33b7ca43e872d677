// Events as they arrive.

import { countRows, fillRows, make, showDuration, showTimes } from './common.js';
import { expectNews, whenKnown } from './live.js';

const maxEvents = 200;
// How far before the last event an open page resumes after a pause, because a smaller number may commit later.
const idMargin = 1000;

const feed = document.getElementById('feed');
const feedState = document.getElementById('feed-state');
let isAway = false;
const feedNews = document.getElementById('feed-news');
const shown = new Set(Array.from(feed?.children ?? [], item => Number(item.dataset.id)));
let source = null;
let lastID = Math.max(0, ...shown);
// Events after this one are requested: at first those after the oldest one of the page, because a smaller number may
// commit later than a greater one.
let after = shown.size ? Math.min(...shown) - 1 : 0;
let news = [];

// A bigint can exceed the range of a number. Its text is kept where the browser supports that.
const parse = text => JSON.parse(text, (key, value, context) =>
    typeof value === 'number' && JSON.rawJSON && String(value) !== context.source
        ? JSON.rawJSON(context.source) : value);

// --- Events ------------------------------------------------------------------------------------

// In the order of event.Changes() in Go.
function fillChanges(table, event) {
    const as = how => row => ({ how, row });
    const changes = [
        ...(event.updated ?? []).flatMap(pair => [as('old')(pair?.old), as('new')(pair?.new)]),
        ...(event.added ?? []).map(as('added')),
        ...(event.removed ?? []).map(as('removed')),
    ];
    fillRows(table, changes.map(change => change.row), event.columns ?? []);
    changes.forEach(({ how }, i) => {
        const line = table.tBodies[0].rows[i];
        line.className = how;
        line.prepend(make('th', { scope: 'row', textContent: how }));
    });
    table.tHead?.rows[0].prepend(make('td'));
    return changes.length;
}

function makeItem(event) {
    const item = document.querySelector('#events template').content.cloneNode(true).firstElementChild;
    const say = (selector, text) => { item.querySelector(selector).textContent = text; };
    item.className = event.outcome;
    item.dataset.id = event.id;
    say('b', event.outcome);
    say('.matview', event.matview);
    const [, source] = event.matview.match(/^source (.*)$/s) ?? [];
    item.querySelector('.matview').href = source ? `/sources/${encodeURIComponent(source)}` : `/views/${encodeURIComponent(event.matview)}`;
    const difference = event.added_count === null ? '' : ` (+${event.added_count} −${event.removed_count})`;
    say('.count', event.row_count === null ? '' : countRows(event.row_count) + difference);
    say('.took', showDuration(event.duration_ms));
    say('.id', `#${event.id}`);
    item.querySelector('.id').href = `/events/${event.id}`;
    say('.error', event.error_message ?? event.reason ?? '');
    item.querySelector('time').dateTime = event.started_at;
    showTimes(item);
    const rows = item.querySelector('.rows');
    rows.setAttribute('aria-label', `Rows of event ${event.id}`);
    const table = item.querySelector('table');
    const hasChanges = fillChanges(table, event);
    rows.hidden = !hasChanges && !event.rows?.length;
    if (!hasChanges) fillRows(table, event.rows, event.columns ?? []);
    return item;
}

// One sentence for all events that arrive together, because a screen reader reads out each change.
function announce(event) {
    if (!news.length) {
        setTimeout(() => {
            const last = news.at(-1);
            feedNews.textContent = news.length > 1 ? `${news.length} new events; the last one: ${last}` : last;
            news = [];
        }, 300);
    }
    news.push(`${event.matview}: ${event.error_message ?? event.reason ?? countRows(event.row_count)}`);
}

function receive(event) {
    if (shown.has(event.id)) return;
    shown.add(event.id);
    lastID = Math.max(lastID, event.id);

    // The event of a longer refresh may arrive after one with a greater number.
    const next = Array.from(feed.children).find(item => Number(item.dataset.id) < event.id);
    feed.insertBefore(makeItem(event), next ?? null);
    feed.hidden = false;
    document.querySelector('#events .empty').hidden = true;
    while (feed.children.length > maxEvents) feed.lastElementChild.remove();
    announce(event);
}

// --- Connection --------------------------------------------------------------------------------

function showState() {
    const isLive = source?.readyState === EventSource.OPEN && !isAway;
    feedState.textContent = isLive ? 'Live' : isAway ? 'Waiting for the database …' : 'Reconnecting …';
    feedState.className = isLive ? 'live' : '';
}

function connect() {
    const mine = source = new EventSource(`${feed.dataset.stream}&after=${after}`);
    source.addEventListener('refresh', message => receive(parse(message.data)));
    source.onopen = showState;
    source.onerror = () => {
        showState();
        expectNews();
        after = Math.max(after, lastID - idMargin);
        // The browser reconnects by itself, except when the server answered with an error.
        if (mine.readyState === EventSource.CLOSED) setTimeout(() => source === mine && connect(), 5000);
    };
}

// A page of older events does not change. A browser opens few connections to one server, so tabs in the
// background must not hold them all.
if (feed?.dataset.stream) {
    document.addEventListener('visibilitychange', () => {
        if (document.hidden) {
            source?.close();
            source = null;
        } else if (!source) {
            after = Math.max(after, lastID - idMargin);
            connect();
        }
    });
    whenKnown(away => {
        isAway = away;
        showState();
    });
    if (!document.hidden) connect();
}
