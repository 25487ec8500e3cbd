#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "steps.hpp"

namespace {

constexpr int kHeight = 48;          // of the strips that the network reads
constexpr int kLeast = 320, kStep = 64;  // their widths, which the library was built for
constexpr int kInk = 80;             // how far ink is from the paper, of 255
constexpr float kMargin = 0.25f;     // paper above and below a line, of its height
constexpr float kGap = 0.29f;        // paper between two words, of the height of the line

int brightness(const std::uint8_t *rgb) { return (299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2]) / 1000; }

// For each row, or each column, whether there is ink.
std::vector<bool> inked(const Picture &page, bool rows) {
  std::vector<int> count(256);
  for (int y = 0; y < page.height; ++y)
    for (int x = 0; x < page.width; ++x) ++count[static_cast<std::size_t>(brightness(page.pixel(x, y)))];
  const int paper = static_cast<int>(std::max_element(count.begin(), count.end()) - count.begin());
  std::vector<bool> found(static_cast<std::size_t>(rows ? page.height : page.width));
  for (int y = 0; y < page.height; ++y)
    for (int x = 0; x < page.width; ++x)
      if (std::abs(brightness(page.pixel(x, y)) - paper) > kInk) found[static_cast<std::size_t>(rows ? y : x)] = true;
  return found;
}

struct Run {
  int begin, end;
};

std::vector<Run> runs(const std::vector<bool> &inked) {
  std::vector<Run> found;
  for (int i = 0; i < static_cast<int>(inked.size()); ++i) {
    if (!inked[static_cast<std::size_t>(i)]) continue;
    if (found.empty() || found.back().end != i) found.push_back({i, i});
    found.back().end = i + 1;
  }
  return found;
}

// Middles of the gaps between words, as shares of the width: the network, trained on Chinese, drops most spaces.
std::vector<float> word_gaps(const Picture &line) {
  const std::vector<Run> letters = runs(inked(line, false)), rows = runs(inked(line, true));
  std::vector<float> found;
  if (rows.empty()) return found;
  const float wide = kGap * static_cast<float>(rows.back().end - rows.front().begin);
  for (std::size_t i = 1; i < letters.size(); ++i) {
    const int end = letters[i - 1].end, begin = letters[i].begin;
    if (static_cast<float>(begin - end) >= wide)
      found.push_back(static_cast<float>(begin + end) / 2 / static_cast<float>(line.width));
  }
  return found;
}

}  // namespace

std::vector<Picture> find_lines(const Picture &page) {
  std::vector<Picture> found;
  for (const Run &row : runs(inked(page, true))) {
    if (row.end - row.begin < 6) continue;  // a speck
    const int margin = static_cast<int>(std::lround(kMargin * static_cast<float>(row.end - row.begin)));
    const int top = std::max(0, row.begin - margin), bottom = std::min(page.height, row.end + margin);
    const std::vector<Run> letters = runs(inked(cropped(page, 0, row.begin, page.width, row.end), false));
    if (letters.empty()) continue;
    const int left = std::max(0, letters.front().begin - margin);
    const int right = std::min(page.width, letters.back().end + margin);
    found.push_back(cropped(page, left, top, right, bottom));
  }
  return found;
}

std::string read_line(mace::Instance &network, const Picture &line, const std::vector<std::string> &characters) {
  const float ratio = static_cast<float>(line.width) / static_cast<float>(line.height);
  const int width = std::max(1, static_cast<int>(std::ceil(kHeight * ratio)));
  const int padded = std::max(kLeast, (width + kStep - 1) / kStep * kStep);
  network.set_shape(0, {1, 3, kHeight, padded});
  const Picture strip = resized(line, width, kHeight);
  const mace::Span<float> in = network.input<float>(0);
  std::fill(in.begin(), in.end(), 0.0f);
  for (int plane = 0; plane < 3; ++plane)  // blue first, as it was trained
    for (int y = 0; y < kHeight; ++y)
      for (int x = 0; x < width; ++x)
        in[static_cast<std::size_t>((plane * kHeight + y) * padded + x)] =
            static_cast<float>(strip.pixel(x, y)[2 - plane]) / 127.5f - 1;
  network.run();

  // The best class of each step; what repeats, and class 0, is no character (CTC).
  const auto shape = network.output_shape(0);  // 1, steps, classes
  const std::size_t steps = static_cast<std::size_t>(shape[1]), classes = static_cast<std::size_t>(shape[2]);
  const float *scores = network.output<float>(0).data();
  std::vector<float> gaps = word_gaps(line);
  const float stretch = static_cast<float>(width) / static_cast<float>(padded) * static_cast<float>(steps);
  for (float &gap : gaps) gap *= stretch;
  // A gap that is behind one step and before another, or near a space that was read, is that space.
  const auto use = [&](float from, float to) {
    const auto end = std::remove_if(gaps.begin(), gaps.end(), [&](float gap) { return from < gap && gap < to; });
    const bool is_found = end != gaps.end();
    gaps.erase(end, gaps.end());
    return is_found;
  };
  std::string text;
  std::size_t last = 0;
  float previous = -1;
  for (std::size_t step = 0; step < steps; ++step, scores += classes) {
    const std::size_t best = static_cast<std::size_t>(std::max_element(scores, scores + classes) - scores);
    if (best != 0 && best != last) {
      const std::string &character = best <= characters.size() ? characters[best - 1] : " ";
      const float here = static_cast<float>(step);
      const bool is_space = character == " ";
      const bool crossed = is_space ? use(previous, here + 2) : use(previous, here);
      if (!text.empty() && (is_space || (crossed && text.back() != ' '))) text += ' ';
      if (!is_space) text += character;
      previous = here;
    }
    last = best;
  }
  return text;
}
