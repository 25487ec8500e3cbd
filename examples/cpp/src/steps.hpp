// What the program can do with a picture.
#pragma once

#include <string>
#include <vector>

#include "mace.hpp"
#include "picture.hpp"

struct Class {
  int number;
  float probability;
};

// The likeliest classes of a picture, the best first.
std::vector<Class> classify(mace::Instance &network, const Picture &picture, std::size_t count);

// The lines of dark text on a bright page, or of bright text on a dark one, from the top.
std::vector<Picture> find_lines(const Picture &page);

// The text of a line. characters: of the classes of the network behind the first, which means that there is none.
std::string read_line(mace::Instance &network, const Picture &line, const std::vector<std::string> &characters);
