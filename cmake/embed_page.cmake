# cmake -D PAGE=index.html -D OUT=page_bytes.c -P embed_page.cmake: a page as an array in C, and the
# hashes of its <script> and <style> as a browser's content policy names them.

# The SHA-256 of what is between <tag> and </tag>, in base64.
function(hash_of tag text out)
  string(FIND "${text}" "<${tag}>" begin)
  string(FIND "${text}" "</${tag}>" end)
  if(begin LESS 0 OR end LESS begin)
    message(FATAL_ERROR "${PAGE}: <${tag}> is not there")
  endif()
  string(LENGTH "<${tag}>" skip)
  math(EXPR begin "${begin} + ${skip}")
  math(EXPR count "${end} - ${begin}")
  string(SUBSTRING "${text}" ${begin} ${count} inside)
  string(SHA256 hex "${inside}")
  set(digits "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
  set(base64)
  foreach(at RANGE 0 60 6) # 3 bytes are 4 digits; 32 bytes end with two of them
    string(SUBSTRING "${hex}0000" ${at} 6 three)
    foreach(shift IN ITEMS 18 12 6 0)
      math(EXPR digit "(0x${three} >> ${shift}) & 63")
      string(SUBSTRING "${digits}" ${digit} 1 digit)
      string(APPEND base64 "${digit}")
    endforeach()
  endforeach()
  string(SUBSTRING "${base64}" 0 43 base64)
  set(${out} "'sha256-${base64}='" PARENT_SCOPE)
endfunction()

file(READ "${PAGE}" text)
hash_of(script "${text}" script)
hash_of(style "${text}" style)
file(READ "${PAGE}" hex HEX)
string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
file(WRITE "${OUT}" "/* Made from index.html by cmake/embed_page.cmake. */
#include \"server/page.h\"

const char page_policy[] =
    \"default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; \"
    \"form-action 'none'; frame-ancestors 'none'; script-src ${script}; style-src ${style}\";
const unsigned char page_bytes[] = {
${bytes}
};
const size_t page_size = sizeof page_bytes;
")
