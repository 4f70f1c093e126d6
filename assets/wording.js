// Where Gradio's own words do not do.

// Some of its buttons have a name for screen readers that differs from what is written on them, so that nobody who
// speaks what they see can press them. Their text is the better name.
const NAMED_OTHERWISE = "button.upload-container[aria-label], button.playback[aria-label]";

// Of a file that is not of the kind that is wanted it says: "Invalid file type: NAME. Only LIST OF TYPES allowed."
const REFUSED = /^Invalid file types?: (.*)\. Only (.*) allowed\.$/s;
const inWords = (types) => (types.startsWith("audio") ? "audio" : types.startsWith("image") ? "a picture" : "a video");

const mend = () => {
  for (const button of document.querySelectorAll(NAMED_OTHERWISE)) button.removeAttribute("aria-label");
  for (const text of document.querySelectorAll("[data-testid=toast-text]")) {
    const refused = text.textContent.match(REFUSED);
    if (refused) text.textContent = `This is not ${inWords(refused[2])}: ${refused[1]}`;
  }
};
new MutationObserver(mend).observe(document.body, {childList: true, subtree: true});
mend();
