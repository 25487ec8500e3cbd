#include <algorithm>
#include <cmath>
#include <numeric>

#include "steps.hpp"

std::vector<Class> classify(mace::Instance &network, const Picture &picture, std::size_t count) {
  constexpr float mean[] = {0.485f, 0.456f, 0.406f}, deviation[] = {0.229f, 0.224f, 0.225f};  // as it was trained
  const auto shape = network.input_shape(0);  // 1, 3, height, width
  const Picture scaled = resized(picture, static_cast<int>(shape[3]), static_cast<int>(shape[2]));
  float *out = network.input<float>(0).data();
  for (std::size_t plane = 0; plane < 3; ++plane)
    for (std::size_t i = plane; i < scaled.rgb.size(); i += 3)
      *out++ = (static_cast<float>(scaled.rgb[i]) / 255 - mean[plane]) / deviation[plane];
  network.run();

  const mace::Span<float> scores = network.output<float>(0);
  const float highest = *std::max_element(scores.begin(), scores.end());
  float sum = 0;
  for (float score : scores) sum += std::exp(score - highest);
  std::vector<int> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  const auto score = [&](int number) { return scores[static_cast<std::size_t>(number)]; };
  const auto end = order.begin() + static_cast<std::ptrdiff_t>(std::min(count, order.size()));
  std::partial_sort(order.begin(), end, order.end(), [&](int a, int b) { return score(a) > score(b); });
  std::vector<Class> found;
  for (auto it = order.begin(); it != end; ++it) found.push_back({*it, std::exp(score(*it) - highest) / sum});
  return found;
}
