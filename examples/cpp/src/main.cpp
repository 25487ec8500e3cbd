// Reads a picture: prints what it shows, or the text on it.
//
//   read_picture class PICTURE [options]
//   read_picture text PICTURE --characters FILE [options]
//
//   --threads N    how many threads take part (default 1; 0: as many as there are processors)
//   --save FOLDER  write what goes into the network and what comes out, run by run
//   --labels FILE  the name of each class, a line each
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>

#include "pictures.h"
#include "steps.hpp"

namespace {

struct Options {
  std::string task, picture, characters, labels, folder;
  int threads = 1;
};

Options parse(int count, char **words) {
  Options options;
  std::vector<std::string> plain;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    if (word.rfind("--", 0) != 0) {
      plain.push_back(word);
      continue;
    }
    if (i + 1 == count) throw std::runtime_error(word + " needs a value");
    const std::string value = words[++i];
    if (word == "--threads")
      options.threads = std::atoi(value.c_str());
    else if (word == "--save")
      options.folder = value;
    else if (word == "--labels")
      options.labels = value;
    else if (word == "--characters")
      options.characters = value;
    else
      throw std::runtime_error("there is no option " + word);
  }
  if (plain.size() != 2 || (plain[0] != "class" && plain[0] != "text"))
    throw std::runtime_error("usage: read_picture class|text PICTURE [--threads N] [--characters FILE] [--labels FILE]");
  options.task = plain[0], options.picture = plain[1];
  return options;
}

std::vector<std::string> read_rows(const std::string &path) {
  std::ifstream stream(path);
  if (!stream) throw std::runtime_error("'" + path + "' cannot be read");
  std::vector<std::string> rows;
  for (std::string row; std::getline(stream, row);) rows.push_back(row);
  return rows;
}

void save(const std::string &folder, int run, const char *kind, mace::Span<const std::int64_t> shape,
          mace::Span<const float> values) {
  if (folder.empty()) return;
  std::string name = folder + "/" + std::to_string(run) + "_" + kind;
  for (std::size_t i = 0; i < shape.size(); ++i) name += (i ? "x" : "_") + std::to_string(shape[i]);
  std::ofstream stream(name, std::ios::binary);
  stream.write(reinterpret_cast<const char *>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
  if (!stream.flush()) throw std::runtime_error("'" + name + "' cannot be written");
}

void save(const std::string &folder, int run, mace::Instance &network) {
  save(folder, run, "in", network.input_shape(0), network.input<const float>(0));
  save(folder, run, "out", network.output_shape(0), network.output<const float>(0));
}

}  // namespace

int main(int count, char **words) {
  try {
    const Options options = parse(count, words);
    const Picture picture = read_picture(options.picture);
    const auto start = std::chrono::steady_clock::now();
    mace::Instance network(options.task == "class" ? classes_model() : text_model(), options.threads);
    const std::chrono::duration<double, std::milli> opening = std::chrono::steady_clock::now() - start;
    if (options.task == "class") {
      std::vector<std::string> labels;
      if (!options.labels.empty()) labels = read_rows(options.labels);
      for (const Class &found : classify(network, picture, 5)) {
        const auto number = static_cast<std::size_t>(found.number);
        std::printf("%6.3f  %s\n", static_cast<double>(found.probability),
                    number < labels.size() ? labels[number].c_str() : std::to_string(found.number).c_str());
      }
      save(options.folder, 0, network);
    } else {
      const std::vector<std::string> characters = read_rows(options.characters);
      int run = 0;
      for (const Picture &line : find_lines(picture)) {
        std::printf("%s\n", read_line(network, line, characters).c_str());
        save(options.folder, run++, network);
      }
    }
    std::fprintf(stderr, "%s for %s, opened in %.2f ms\n", network.model()->name, network.model()->target,
                 opening.count());
    return 0;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "read_picture: %s\n", error.what());
    return 1;
  }
}
