// A picture of 8-bit colors, and what models want of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

struct Picture {
  int width = 0, height = 0;
  std::vector<std::uint8_t> rgb;  // of each pixel red, green, blue; rows from the top

  const std::uint8_t *pixel(int x, int y) const {
    return &rgb[3 * (static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x))];
  }
};

// Read a PPM, PGM or BMP file, and a PNG where the program has libpng. Throws std::runtime_error.
Picture read_picture(const std::string &path);

// The part of a picture from (left, top) to (right, bottom), these not included.
Picture cropped(const Picture &picture, int left, int top, int right, int bottom);

// Scaled to another size, with linear interpolation between the four nearest pixels.
Picture resized(const Picture &picture, int width, int height);
