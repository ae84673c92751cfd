FROM debian:bookworm
RUN apt-get update && apt-get install -y --no-install-recommends libcurl4 libstdc++6 && rm -rf /var/lib/apt/lists/* && mkdir -p /data/db
COPY mongod node /usr/local/bin/
COPY mongosh /opt/mongosh
RUN ln -s /opt/mongosh/node_modules/.bin/mongosh /usr/local/bin/
EXPOSE 27017
CMD ["mongod"]
