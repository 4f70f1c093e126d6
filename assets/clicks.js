// A double click is one click where each would make a video: on "Generate" and on the examples.
const MAKES_A_VIDEO = "#generate, #examples table";
document.addEventListener(
  "click",
  (event) => {
    if (event.detail < 2 || !event.target.closest(MAKES_A_VIDEO)) return;
    event.preventDefault();
    event.stopPropagation();
  },
  true,
);
