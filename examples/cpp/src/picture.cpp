#include "picture.hpp"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>

#ifdef HAVE_PNG
#include <png.h>
#endif

namespace {

constexpr long kLargest = 1L << 14;  // pixels along a side: more is a damaged file

using Bytes = std::vector<std::uint8_t>;

Picture sized(long width, long height) {
  if (width < 1 || height < 1 || width > kLargest || height > kLargest)
    throw std::runtime_error("its size is " + std::to_string(width) + "x" + std::to_string(height));
  Picture picture;
  picture.width = static_cast<int>(width), picture.height = static_cast<int>(height);
  picture.rgb.resize(3 * static_cast<std::size_t>(width) * static_cast<std::size_t>(height));
  return picture;
}

// A number in the head of a PPM file; comments go from # to the end of a line.
long ppm_number(const Bytes &file, std::size_t &at) {
  while (at < file.size() && (std::isspace(file[at]) || file[at] == '#')) {
    if (file[at] == '#')
      while (at < file.size() && file[at] != '\n') ++at;
    else
      ++at;
  }
  long found = -1;
  for (; at < file.size() && std::isdigit(file[at]); ++at)  // to its end, however long: the next one begins behind it
    if (found <= kLargest) found = std::max(found, 0L) * 10 + (file[at] - '0');
  return found;
}

Picture from_ppm(const Bytes &file) {
  const int planes = file[1] == '6' ? 3 : 1;
  std::size_t at = 2;
  const long width = ppm_number(file, at), height = ppm_number(file, at), most = ppm_number(file, at);
  ++at;  // one space
  if (most != 255) throw std::runtime_error("its numbers are not of 8 bits");
  Picture picture = sized(width, height);
  const std::size_t pixels = picture.rgb.size() / 3;
  if (file.size() < at || file.size() - at < pixels * static_cast<std::size_t>(planes))
    throw std::runtime_error("it is too short");
  for (std::size_t i = 0; i < picture.rgb.size(); ++i) picture.rgb[i] = file[at + (planes == 3 ? i : i / 3)];
  return picture;
}

std::uint32_t little(const Bytes &file, std::size_t at, int bytes) {
  std::uint32_t found = 0;
  for (int i = bytes; i-- > 0;) found = found << 8 | file[at + static_cast<std::size_t>(i)];
  return found;
}

Picture from_bmp(const Bytes &file) {
  if (file.size() < 54) throw std::runtime_error("it is too short");
  const long height = static_cast<std::int32_t>(little(file, 22, 4));
  const std::uint32_t bits = little(file, 28, 2);
  if ((bits != 24 && bits != 32) || (little(file, 30, 4) != 0 && little(file, 30, 4) != 3))
    throw std::runtime_error("only BMP files of 24 or 32 bits without compression are read");
  Picture picture = sized(static_cast<std::int32_t>(little(file, 18, 4)), std::abs(height));
  const std::size_t start = little(file, 10, 4), step = bits / 8;
  const std::size_t row = (static_cast<std::size_t>(picture.width) * step + 3) / 4 * 4;
  const std::size_t needed = row * static_cast<std::size_t>(picture.height);
  if (start > file.size() || file.size() - start < needed) throw std::runtime_error("it is too short");
  std::uint8_t *out = picture.rgb.data();
  for (int y = 0; y < picture.height; ++y) {
    const int line = height > 0 ? picture.height - 1 - y : y;  // usually the last row comes first
    const std::uint8_t *in = &file[start + static_cast<std::size_t>(line) * row];
    for (int x = 0; x < picture.width; ++x, in += step, out += 3) out[0] = in[2], out[1] = in[1], out[2] = in[0];
  }
  return picture;
}

#ifdef HAVE_PNG
Picture from_png(const Bytes &file) {
  png_image image;
  std::memset(&image, 0, sizeof image);
  image.version = PNG_IMAGE_VERSION;
  if (!png_image_begin_read_from_memory(&image, file.data(), file.size())) throw std::runtime_error(image.message);
  image.format = PNG_FORMAT_RGB;
  Picture picture = sized(static_cast<long>(image.width), static_cast<long>(image.height));
  const png_color white = {255, 255, 255};  // behind what is transparent
  if (!png_image_finish_read(&image, &white, picture.rgb.data(), 0, nullptr)) throw std::runtime_error(image.message);
  return picture;
}
#endif

Picture from_bytes(const Bytes &file) {
  const auto begins = [&](const char *text) {
    return file.size() >= std::strlen(text) && std::equal(text, text + std::strlen(text), file.begin());
  };
  if (begins("P6") || begins("P5")) return from_ppm(file);
  if (begins("BM")) return from_bmp(file);
#ifdef HAVE_PNG
  if (begins("\x89PNG")) return from_png(file);
  throw std::runtime_error("it is no PPM, PGM, BMP or PNG file");
#else
  throw std::runtime_error("it is no PPM, PGM or BMP file");
#endif
}

}  // namespace

Picture read_picture(const std::string &path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error("'" + path + "' cannot be read");
  const Bytes file{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  try {
    return from_bytes(file);
  } catch (const std::runtime_error &error) {
    throw std::runtime_error("'" + path + "' is not a picture that can be read: " + error.what());
  }
}

Picture cropped(const Picture &picture, int left, int top, int right, int bottom) {
  Picture part = sized(right - left, bottom - top);
  const auto bytes = 3 * static_cast<std::ptrdiff_t>(part.width);
  for (int y = 0; y < part.height; ++y)
    std::copy_n(picture.pixel(left, top + y), bytes, part.rgb.begin() + bytes * y);
  return part;
}

namespace {

// Of each pixel of a longer or shorter row: the two that it lies between, and how far behind the first.
struct Place {
  int first, second;
  float share;
};

std::vector<Place> places(int from, int to) {
  std::vector<Place> found(static_cast<std::size_t>(to));
  for (int i = 0; i < to; ++i) {
    const float middle = (static_cast<float>(i) + 0.5f) * static_cast<float>(from) / static_cast<float>(to) - 0.5f;
    const float inside = std::clamp(middle, 0.0f, static_cast<float>(from - 1));
    const int first = static_cast<int>(inside);
    found[static_cast<std::size_t>(i)] = {first, std::min(first + 1, from - 1), inside - static_cast<float>(first)};
  }
  return found;
}

}  // namespace

Picture resized(const Picture &picture, int width, int height) {
  Picture scaled = sized(width, height);
  const std::vector<Place> columns = places(picture.width, width), rows = places(picture.height, height);
  std::uint8_t *out = scaled.rgb.data();
  for (const Place &row : rows)
    for (const Place &column : columns)
      for (int plane = 0; plane < 3; ++plane) {
        const auto at = [&](int x, int y) { return static_cast<float>(picture.pixel(x, y)[plane]); };
        const float above = at(column.first, row.first) * (1 - column.share) + at(column.second, row.first) * column.share;
        const float below = at(column.first, row.second) * (1 - column.share) + at(column.second, row.second) * column.share;
        *out++ = static_cast<std::uint8_t>(above * (1 - row.share) + below * row.share + 0.5f);
      }
  return scaled;
}
