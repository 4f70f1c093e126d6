// The player. It takes what to play from the job's card, and never interrupts somebody who watches: a longer version
// of the same video waits until the present one stands still, and goes on where it stood.
const video = element.querySelector("video");
const image = element.querySelector("img");
const note = element.querySelector(".note");
const unseen = element.querySelector("[role=status]");
let job = "";
let waiting = "";

const play = (source, at, on) => {
  waiting = "";
  video.src = source;
  if (at) {
    const there = () => {
      video.currentTime = at;
      if (on) video.play().catch(() => {});
    };
    video.addEventListener("loadedmetadata", there, {once: true});
  }
};

const goOn = () => {
  if (waiting) play(waiting, video.currentTime, video.ended);
};

const show = (card) => {
  const source = card.dataset.video || "";
  const picture = card.querySelector(".becoming img");
  const other = (card.dataset.job || "") !== job;
  job = card.dataset.job || "";
  if (!source) {
    waiting = "";
    video.removeAttribute("src");
    video.load();
  } else if (other || !video.getAttribute("src")) {
    play(source, 0, false);
  } else if (source !== video.getAttribute("src")) {
    waiting = source;
    if (video.paused) goOn();
  } else {
    waiting = "";
  }
  video.hidden = !source;
  image.hidden = Boolean(source) || !picture;
  if (!image.hidden) {
    image.src = picture.src;
    image.alt = picture.alt;
  }
  note.hidden = !video.hidden || !image.hidden;
};

// Those who do not see the cards are told what has changed, not every number that moves.
const tell = (card) => {
  const parts = [".model .badge", ".job strong", ".job .clip"].map((part) => document.querySelector(part)?.textContent);
  const told = parts.filter(Boolean).join(", ");
  if (told !== unseen.textContent) unseen.textContent = told;
};

// A look brings the cards alone; it says when there is more to be fetched.
let fetched = "";
const fetchMore = () => {
  const changed = document.querySelector("#job [data-changed]")?.dataset.changed || "";
  if (!changed || changed === fetched) return;
  fetched = changed;
  trigger("select", {});
};

const look = () => {
  fetchMore();
  const card = document.querySelector("#job .card");
  if (!card) return;
  show(card);
  tell(card);
};

video.addEventListener("pause", goOn);
video.addEventListener("ended", goOn);
const watch_cards = new MutationObserver(look);
for (const place of ["job", "model"]) {
  const cards = document.getElementById(place);
  if (cards) watch_cards.observe(cards, {childList: true, subtree: true, attributes: true});
}
look();
